//! Joins, unions and their like: what two relations become.

use super::Planner;
use super::expression::{Named, required, unsupported};
use super::frame::{Attribute, Frame, project};
use super::generate::common_type;
use crate::sql::error::from_datafusion;
use arrow::datatypes::DataType;
use datafusion::common::{Column, JoinType, NullEquality, ScalarValue};
use datafusion::logical_expr::expr::{Cast, WindowFunction};
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, WindowFunctionDefinition};
use headwater_executor::functions::windows::row_number;
use headwater_proto::error::{Error, Result};
use headwater_proto::spark;
use headwater_proto::spark::join::JoinType as SparkJoin;
use headwater_proto::spark::set_operation::SetOpType;

impl Planner<'_> {
    /// `join`.
    pub(super) fn join(&mut self, left: Frame, right: Frame, message: &spark::Join) -> Result<Frame> {
        if message.join_data_type.as_ref().is_some_and(|kind| kind.is_left_struct || kind.is_right_struct) {
            return Err(unsupported("joinWith, a join of typed rows"));
        }
        let kind = join_type(message.join_type());
        let (left, right) = self.apart(left, right)?;
        if !message.using_columns.is_empty() {
            return self.join_using(&left, &right, kind, &message.using_columns);
        }
        let condition = match &message.join_condition {
            Some(condition) => {
                let both = self.both(&left, &right)?;
                let named = self.expressions(&both).one(condition)?;
                let data_type = self.expressions(&both).type_of(&named.expr)?;
                if !matches!(data_type, DataType::Boolean | DataType::Null) {
                    return Err(Error::invalid(
                        "JOIN_CONDITION_IS_NOT_BOOLEAN_TYPE",
                        format!(
                            "the join condition \"{}\" has the invalid type {}, expected \"BOOLEAN\"",
                            named.text,
                            super::frame::type_text(&data_type)
                        ),
                    ));
                }
                Some(named.expr)
            }
            None => None,
        };
        let plan = joined(&left, &right, kind, condition)?;
        Ok(match kind {
            JoinType::LeftSemi | JoinType::LeftAnti => left.with(plan, left.columns().to_vec()),
            _ => left.beside(&right, plan),
        })
    }

    /// Two frames whose columns have different unique names.
    pub(super) fn apart(&mut self, left: Frame, right: Frame) -> Result<(Frame, Frame)> {
        let left = left.sealed(&self.ids)?;
        let right = right.sealed(&self.ids)?;
        let right = if left.overlaps(&right) { right.renewed(&self.ids)? } else { right };
        Ok((left, right))
    }

    /// Every row beside every other: what a condition is resolved over.
    fn both(&self, left: &Frame, right: &Frame) -> Result<Frame> {
        let plan = LogicalPlanBuilder::from(left.plan().clone())
            .cross_join(right.plan().clone())
            .and_then(LogicalPlanBuilder::build)
            .map_err(from_datafusion)?;
        Ok(left.beside(right, plan))
    }

    fn join_using(&mut self, left: &Frame, right: &Frame, kind: JoinType, using: &[String]) -> Result<Frame> {
        let side = |frame: &Frame, name: &String, which: &str| -> Result<Attribute> {
            match frame.positions(name).as_slice() {
                [at] => Ok(frame.columns()[*at].clone()),
                [] => {
                    let known = frame.columns().iter().map(|column| format!("`{}`", column.name)).collect::<Vec<_>>();
                    Err(Error::invalid(
                        "UNRESOLVED_USING_COLUMN_FOR_JOIN",
                        format!(
                            "USING column `{name}` cannot be resolved on the {which} side of the join: the {which}-side columns: [{}]",
                            known.join(", ")
                        ),
                    ))
                }
                _ => Err(Error::invalid(
                    "AMBIGUOUS_REFERENCE",
                    format!(
                        "reference `{name}` is ambiguous: the {which} side of the join has several columns of this name"
                    ),
                )),
            }
        };
        let mut pairs = vec![];
        for name in using {
            pairs.push((side(left, name, "left")?, side(right, name, "right")?));
        }
        let condition = pairs.iter().map(|(left, right)| left.expr().eq(right.expr())).reduce(Expr::and);
        let plan = joined(left, right, kind, condition)?;
        if matches!(kind, JoinType::LeftSemi | JoinType::LeftAnti) {
            let mut columns: Vec<Attribute> = pairs.iter().map(|(left, _)| left.clone()).collect();
            columns
                .extend(left.columns().iter().filter(|column| pairs.iter().all(|(l, _)| l.id != column.id)).cloned());
            return Ok(left.with(plan, columns));
        }
        let mut shown = vec![];
        let mut taken_together = vec![];
        let mut plan = plan;
        for (l, r) in &pairs {
            match kind {
                JoinType::Right => {
                    shown.push(r.clone());
                    taken_together.push(l.clone());
                }
                JoinType::Full => {
                    let id = self.ids.next(&l.name);
                    let mut exprs: Vec<Expr> =
                        plan.schema().fields().iter().map(|field| super::frame::column(field.name())).collect();
                    let coalesced = datafusion::functions::core::expr_fn::coalesce(vec![l.expr(), r.expr()]);
                    exprs.push(coalesced.alias(&id));
                    plan = project(plan, exprs)?;
                    shown.push(Attribute { id, qualifier: vec![], ..l.clone() });
                    taken_together.extend([l.clone(), r.clone()]);
                }
                _ => {
                    shown.push(l.clone());
                    taken_together.push(r.clone());
                }
            }
        }
        let keys: Vec<&String> = pairs.iter().flat_map(|(l, r)| [&l.id, &r.id]).collect();
        let others = left.columns().iter().chain(right.columns()).filter(|column| !keys.contains(&&column.id));
        shown.extend(others.cloned());
        let beside = left.beside(right, plan.clone());
        Ok(beside.with(plan, shown).with_joined(taken_together))
    }

    /// `union`, `intersect`, `exceptAll` and so on.
    pub(super) fn set_operation(&mut self, left: Frame, right: Frame, message: &spark::SetOperation) -> Result<Frame> {
        let all = message.is_all.unwrap_or(false);
        let (mut left, mut right) = (left.sealed(&self.ids)?, right.sealed(&self.ids)?);
        let operation = message.set_op_type();
        if message.by_name.unwrap_or(false) {
            (left, right) = self.by_name(left, right, message.allow_missing_columns.unwrap_or(false))?;
        }
        let word = match operation {
            SetOpType::Union => "UNION",
            SetOpType::Intersect => "INTERSECT",
            SetOpType::Except => "EXCEPT",
            SetOpType::Unspecified => return Err(unsupported("a set operation without a kind")),
        };
        if left.columns().len() != right.columns().len() {
            return Err(Error::invalid(
                "NUM_COLUMNS_MISMATCH",
                format!(
                    "{word} can only be performed on inputs with the same number of columns, but the first input has {} \
                     columns and the second input has {} columns",
                    left.columns().len(),
                    right.columns().len()
                ),
            ));
        }
        let (left, right) = self.of_common_types(left, right, word)?;
        let right = if left.overlaps(&right) { right.renewed(&self.ids)? } else { right };
        let (l, r) = (left.plan().clone(), right.plan().clone());
        let plan = match (operation, all) {
            (SetOpType::Union, true) => {
                LogicalPlanBuilder::from(l).union(r).and_then(LogicalPlanBuilder::build).map_err(from_datafusion)?
            }
            (SetOpType::Union, false) => LogicalPlanBuilder::from(l)
                .union_distinct(r)
                .and_then(LogicalPlanBuilder::build)
                .map_err(from_datafusion)?,
            (_, false) => {
                let kind = if operation == SetOpType::Intersect { JoinType::LeftSemi } else { JoinType::LeftAnti };
                let keys = keys_of(&left, &right);
                LogicalPlanBuilder::from(l)
                    .distinct()
                    .and_then(|l| l.join_detailed(r, kind, keys, None, NullEquality::NullEqualsNull))
                    .and_then(LogicalPlanBuilder::build)
                    .map_err(from_datafusion)?
            }
            (_, true) => return self.multiset(left, right, operation),
        };
        // A union's columns are new ones, of the left one's names.
        Ok(left.with(plan, left.columns().to_vec()).showing_only())
    }

    /// `exceptAll` and `intersectAll`: of equal rows, the n-th of one side meets the n-th of the other.
    fn multiset(&mut self, left: Frame, right: Frame, operation: SetOpType) -> Result<Frame> {
        let (l, left_number) = self.numbered_within(&left)?;
        let (r, right_number) = self.numbered_within(&right)?;
        let kind = if operation == SetOpType::Intersect { JoinType::LeftSemi } else { JoinType::LeftAnti };
        let (mut left_keys, mut right_keys) = keys_of(&left, &right);
        left_keys.push(Column::new_unqualified(left_number));
        right_keys.push(Column::new_unqualified(right_number));
        let plan = LogicalPlanBuilder::from(l)
            .join_detailed(r, kind, (left_keys, right_keys), None, NullEquality::NullEqualsNull)
            .and_then(LogicalPlanBuilder::build)
            .map_err(from_datafusion)?;
        Ok(left.with(plan, left.columns().to_vec()).showing_only())
    }

    /// The plan with a number of each row among those equal to it.
    fn numbered_within(&mut self, frame: &Frame) -> Result<(LogicalPlan, String)> {
        let keys = frame.columns().iter().map(Attribute::expr).collect();
        let order =
            frame.columns().first().map(|first| datafusion::logical_expr::expr::Sort::new(first.expr(), true, true));
        self.with_row_number(frame.plan().clone(), keys, order.into_iter().collect())
    }

    /// The plan with `row_number()` over a window, and that column's name.
    pub(super) fn with_row_number(
        &self,
        plan: LogicalPlan,
        partition_by: Vec<Expr>,
        order_by: Vec<datafusion::logical_expr::expr::Sort>,
    ) -> Result<(LogicalPlan, String)> {
        let mut window = WindowFunction::new(WindowFunctionDefinition::WindowUDF(row_number()), vec![]);
        window.params.partition_by = partition_by;
        window.params.window_frame = datafusion::logical_expr::WindowFrame::new_bounds(
            datafusion::logical_expr::WindowFrameUnits::Rows,
            datafusion::logical_expr::WindowFrameBound::Preceding(ScalarValue::UInt64(None)),
            datafusion::logical_expr::WindowFrameBound::CurrentRow,
        );
        window.params.order_by = order_by;
        let window = Expr::WindowFunction(Box::new(window));
        let id = self.ids.next("row");
        let mut exprs: Vec<Expr> =
            plan.schema().fields().iter().map(|field| super::frame::column(field.name())).collect();
        let plan = LogicalPlanBuilder::window_plan(plan, vec![window.clone()]).map_err(from_datafusion)?;
        exprs.push(window.alias(&id));
        Ok((project(plan, exprs)?, id))
    }

    /// `unionByName`: the right one's columns in the left one's order.
    fn by_name(&mut self, left: Frame, right: Frame, allow_missing: bool) -> Result<(Frame, Frame)> {
        let find = |frame: &Frame, name: &str, other: &Frame| -> Result<Option<Attribute>> {
            match frame.positions(name).as_slice() {
                [at] => Ok(Some(frame.columns()[*at].clone())),
                [] if allow_missing => Ok(None),
                [] => {
                    let _ = other;
                    Err(frame
                        .find(&[name.to_string()], false)
                        .err()
                        .unwrap_or_else(|| Error::internal("was not found")))
                }
                _ => Err(Error::invalid(
                    "AMBIGUOUS_REFERENCE",
                    format!("reference `{name}` is ambiguous: several columns have this name"),
                )),
            }
        };
        let null = |name: &str, like: &Attribute, frame: &Frame| -> Result<Named> {
            let data_type = frame.field(like)?.data_type().clone();
            Ok(Named::new(Expr::Literal(ScalarValue::try_from(&data_type).map_err(from_datafusion)?, None), name))
        };
        let mut lefts: Vec<Named> = left.columns().iter().cloned().map(Named::of_column).collect();
        let mut rights = vec![];
        for column in left.columns() {
            rights.push(match find(&right, &column.name, &left)? {
                Some(found) => Named::of_column(found),
                None => null(&column.name, column, &left)?,
            });
        }
        for column in right.columns() {
            if left.positions(&column.name).is_empty() {
                if !allow_missing {
                    if left.columns().len() == right.columns().len() {
                        break;
                    }
                    return Err(Error::invalid(
                        "NUM_COLUMNS_MISMATCH",
                        format!(
                            "UNION can only be performed on inputs with the same number of columns, but the first input \
                             has {} columns and the second input has {} columns",
                            left.columns().len(),
                            right.columns().len()
                        ),
                    ));
                }
                lefts.push(null(&column.name, column, &right)?);
                rights.push(Named::of_column(column.clone()));
            }
        }
        let left = self.compute(left, lefts)?.sealed(&self.ids)?;
        let right = self.compute(right, rights)?.sealed(&self.ids)?;
        Ok((left, right))
    }

    /// Both with the types that hold the values of both.
    fn of_common_types(&mut self, left: Frame, right: Frame, word: &str) -> Result<(Frame, Frame)> {
        let mut wanted = vec![];
        for (at, (l, r)) in left.columns().iter().zip(right.columns()).enumerate() {
            let (l, r) = (left.field(l)?.data_type().clone(), right.field(r)?.data_type().clone());
            let same = l == r || l == DataType::Null || r == DataType::Null;
            let known: Vec<DataType> = [l.clone(), r.clone()].into_iter().filter(|t| *t != DataType::Null).collect();
            wanted.push(match common_type(&known) {
                Ok(found) if same || comparable(&l, &r) => found,
                _ => {
                    return Err(Error::invalid(
                        "INCOMPATIBLE_COLUMN_TYPE",
                        format!(
                            "{word} can only be performed on tables with compatible column types: column {} of the \
                             second table is {} type which is not compatible with {} at the same column of the first table",
                            at + 1,
                            super::frame::type_text(&r),
                            super::frame::type_text(&l)
                        ),
                    ));
                }
            });
        }
        Ok((self.of_types(left, &wanted)?, self.of_types(right, &wanted)?))
    }

    fn of_types(&mut self, frame: Frame, types: &[DataType]) -> Result<Frame> {
        let mut columns = vec![];
        for (attribute, data_type) in frame.columns().iter().zip(types) {
            let named = Named::of_column(attribute.clone());
            columns.push(if frame.field(attribute)?.data_type() == data_type {
                named
            } else {
                let cast = Expr::Cast(Cast::new(Box::new(named.expr), data_type.clone()));
                Named { metadata: named.metadata, ..Named::new(cast, named.text) }
            });
        }
        self.compute(frame, columns)?.sealed(&self.ids)
    }

    /// `lateralJoin` of what does not look at the left side.
    pub(super) fn lateral_join(&mut self, left: Frame, right: Frame, message: &spark::LateralJoin) -> Result<Frame> {
        let join = spark::Join {
            left: None,
            right: None,
            join_condition: message.join_condition.clone(),
            join_type: message.join_type,
            using_columns: vec![],
            join_data_type: None,
        };
        self.join(left, right, &join)
    }

    /// An as-of join: of the right rows that match, the nearest one.
    pub(super) fn as_of_join(&mut self, left: Frame, right: Frame, message: &spark::AsOfJoin) -> Result<Frame> {
        let (left, right) = self.apart(left, right)?;
        let both = self.both(&left, &right)?;
        let expressions = self.expressions(&both);
        let left_time = expressions.one(required(message.left_as_of.as_ref(), "the left time of an as-of join")?)?.expr;
        let right_time =
            expressions.one(required(message.right_as_of.as_ref(), "the right time of an as-of join")?)?.expr;
        let mut conditions = vec![];
        for name in &message.using_columns {
            let (l, r) = (left.named_column(name)?, right.named_column(name)?);
            conditions.push(l.expr().eq(r.expr()));
        }
        if let Some(condition) = &message.join_expr {
            conditions.push(expressions.one(condition)?.expr);
        }
        let exact = message.allow_exact_matches;
        let direction = message.direction.as_str();
        match (direction, exact) {
            ("backward", true) => conditions.push(left_time.clone().gt_eq(right_time.clone())),
            ("backward", false) => conditions.push(left_time.clone().gt(right_time.clone())),
            ("forward", true) => conditions.push(left_time.clone().lt_eq(right_time.clone())),
            ("forward", false) => conditions.push(left_time.clone().lt(right_time.clone())),
            ("nearest", exact) => {
                if !exact {
                    conditions.push(left_time.clone().not_eq(right_time.clone()));
                }
            }
            (other, _) => {
                return Err(Error::invalid(
                    "AS_OF_JOIN.UNSUPPORTED_DIRECTION",
                    format!("unsupported as-of join direction '{other}': supported are backward, forward, nearest"),
                ));
            }
        }
        let times = (self.expressions(&both).type_of(&left_time)?, self.expressions(&both).type_of(&right_time)?);
        if let Some(tolerance) = &message.tolerance {
            let tolerance = self.expressions(&both).one(tolerance)?.expr;
            if direction != "forward" {
                conditions.push(right_time.clone().gt_eq(left_time.clone() - tolerance.clone()));
            }
            if direction != "backward" {
                conditions.push(right_time.clone().lt_eq(left_time.clone() + tolerance));
            }
        }
        let kind = match message.join_type.as_str() {
            "inner" => JoinType::Inner,
            "left" | "leftouter" | "left_outer" => JoinType::Left,
            other => return Err(unsupported(&format!("as-of join of type {other}"))),
        };
        // Each left row is numbered, joined with all that match, of which the nearest is kept.
        let (numbered, number) = self.with_row_number(left.plan().clone(), vec![], vec![])?;
        let left = left.over(numbered);
        let plan = joined(&left, &right, kind, conditions.into_iter().reduce(Expr::and))?;
        let distance = match direction {
            "backward" => datafusion::logical_expr::expr::Sort::new(right_time, false, false),
            "forward" => datafusion::logical_expr::expr::Sort::new(right_time, true, false),
            _ if times.0.is_numeric() && times.1.is_numeric() => {
                let distance = self.expressions(&both).function("abs", vec![left_time - right_time], false)?;
                datafusion::logical_expr::expr::Sort::new(distance, true, false)
            }
            _ => return Err(unsupported("an as-of join in direction nearest of what is no number")),
        };
        let (plan, rank) = self.with_row_number(plan, vec![super::frame::column(&number)], vec![distance])?;
        let plan = LogicalPlanBuilder::from(plan)
            .filter(super::frame::column(&rank).eq(datafusion::logical_expr::lit(1_i64)))
            .and_then(LogicalPlanBuilder::build)
            .map_err(from_datafusion)?;
        let columns: Vec<Attribute> = left.columns().iter().chain(right.columns()).cloned().collect();
        let frame = left.beside(&right, plan.clone()).with(plan, columns);
        frame.showing_only().sealed(&self.ids)
    }

    /// `zip`: rows beside each other in their order.
    pub(super) fn zip(&mut self, left: Frame, right: Frame) -> Result<Frame> {
        let (left, right) = self.apart(left, right)?;
        let (l, left_number) = self.numbered(&left)?;
        let (r, right_number) = self.numbered(&right)?;
        let keys = (vec![Column::new_unqualified(left_number)], vec![Column::new_unqualified(right_number)]);
        let plan = LogicalPlanBuilder::from(l)
            .join(r, JoinType::Inner, keys, None)
            .and_then(LogicalPlanBuilder::build)
            .map_err(from_datafusion)?;
        left.beside(&right, plan).sealed(&self.ids)
    }

    /// The plan with a number of each row in the plan's order, where it has one.
    pub(super) fn numbered(&self, frame: &Frame) -> Result<(LogicalPlan, String)> {
        let order = match frame.plan() {
            LogicalPlan::Sort(sort) => sort.expr.clone(),
            LogicalPlan::Projection(projection) => match projection.input.as_ref() {
                LogicalPlan::Sort(sort) => {
                    let there = |column: &Column| frame.plan().schema().index_of_column(column).is_ok();
                    let whole = sort.expr.iter().all(|key| key.expr.column_refs().into_iter().all(there));
                    if whole { sort.expr.clone() } else { vec![] }
                }
                _ => vec![],
            },
            _ => vec![],
        };
        self.with_row_number(frame.plan().clone(), vec![], order)
    }

    /// `unpivot`.
    pub(super) fn unpivot(&mut self, frame: Frame, message: &spark::Unpivot) -> Result<Frame> {
        let expressions = self.expressions(&frame);
        let ids = expressions.columns(&message.ids)?;
        let values = match &message.values {
            Some(values) => expressions.columns(&values.values)?,
            None => frame
                .columns()
                .iter()
                .filter(|column| ids.iter().all(|id| id.attribute.as_ref().is_none_or(|id| id.id != column.id)))
                .cloned()
                .map(Named::of_column)
                .collect(),
        };
        if values.is_empty() {
            return Err(Error::invalid(
                "UNPIVOT_REQUIRES_VALUE_COLUMNS",
                "at least one value column needs to be specified for UNPIVOT, all columns specified as ids",
            ));
        }
        let types = values.iter().map(|value| expressions.type_of(&value.expr)).collect::<Result<Vec<_>>>()?;
        if let Err(error) = common_type(&types) {
            return Err(Error::invalid(
                "UNPIVOT_VALUE_DATA_TYPE_MISMATCH",
                format!("unpivot value columns must share a least common type: {}", error.message),
            ));
        }
        let rows =
            values.iter().map(|value| vec![datafusion::logical_expr::lit(value.name()), value.expr.clone()]).collect();
        let names = vec![message.variable_column_name.clone(), message.value_column_name.clone()];
        let (plan, made) = super::generate::rows(&frame, names, rows, &expressions, &self.ids)?;
        let mut all = frame.columns().to_vec();
        all.extend(made.iter().cloned());
        let frame = frame.with(plan, all);
        let columns = ids.into_iter().chain(made.into_iter().map(Named::of_column)).collect();
        self.compute(frame, columns)
    }

    /// `hint`: what it asks for changes no row.
    pub(super) fn hint(&self, frame: Frame, message: &spark::Hint) -> Frame {
        tracing::debug!(hint = message.name, "a hint is left to the optimizer");
        frame
    }
}

/// Whether Spark brings the two types together of itself.
fn comparable(left: &DataType, right: &DataType) -> bool {
    let time = |t: &DataType| matches!(t, DataType::Date32 | DataType::Timestamp(..));
    let text = |t: &DataType| matches!(t, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View);
    let bytes = |t: &DataType| matches!(t, DataType::Binary | DataType::LargeBinary | DataType::BinaryView);
    left.is_numeric() && right.is_numeric()
        || time(left) && time(right)
        || text(left) && text(right)
        || bytes(left) && bytes(right)
        || text(left) && right.is_primitive()
        || left.is_primitive() && text(right)
        || left.is_nested() && right.is_nested()
}

fn keys_of(left: &Frame, right: &Frame) -> (Vec<Column>, Vec<Column>) {
    let keys = |frame: &Frame| frame.columns().iter().map(|column| Column::new_unqualified(&column.id)).collect();
    (keys(left), keys(right))
}

fn join_type(kind: SparkJoin) -> JoinType {
    match kind {
        SparkJoin::FullOuter => JoinType::Full,
        SparkJoin::LeftOuter => JoinType::Left,
        SparkJoin::RightOuter => JoinType::Right,
        SparkJoin::LeftAnti => JoinType::LeftAnti,
        SparkJoin::LeftSemi => JoinType::LeftSemi,
        SparkJoin::Inner | SparkJoin::Cross | SparkJoin::Unspecified => JoinType::Inner,
    }
}

fn joined(left: &Frame, right: &Frame, kind: JoinType, condition: Option<Expr>) -> Result<LogicalPlan> {
    let builder = LogicalPlanBuilder::from(left.plan().clone());
    let right = right.plan().clone();
    let built = match (kind, condition) {
        (JoinType::Inner, None) => builder.cross_join(right),
        (kind, None) => builder.join_on(right, kind, [datafusion::logical_expr::lit(true)]),
        (kind, Some(condition)) => builder.join_on(right, kind, [condition]),
    };
    built.and_then(LogicalPlanBuilder::build).map_err(from_datafusion)
}
