//! `fillna`, `dropna` and `replace`.

use super::expression::{Named, required};
use super::frame::{Attribute, Frame};
use super::{Planner, literal};
use crate::sql::error::from_datafusion;
use arrow::datatypes::DataType;
use datafusion::common::ScalarValue;
use datafusion::logical_expr::expr::{Case, Cast};
use datafusion::logical_expr::{Expr, Operator, binary_expr, lit};
use headwater_proto::error::{Error, Result};
use headwater_proto::spark;

/// What kind of value a column or a literal is: values fill columns of their own kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Number,
    Text,
    Boolean,
    Other,
}

fn kind(data_type: &DataType) -> Kind {
    match data_type {
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => Kind::Text,
        DataType::Boolean => Kind::Boolean,
        other if other.is_numeric() => Kind::Number,
        _ => Kind::Other,
    }
}

impl Planner<'_> {
    fn subset(&self, frame: &Frame, names: &[String]) -> Result<Vec<Attribute>> {
        if names.is_empty() {
            return Ok(frame.columns().to_vec());
        }
        names.iter().map(|name| frame.named_column(name)).collect()
    }

    /// Null where a floating point column is NaN.
    fn nan_as_null(&self, frame: &Frame, attribute: &Attribute) -> Result<Expr> {
        if !frame.field(attribute)?.data_type().is_floating() {
            return Ok(attribute.expr());
        }
        let data_type = frame.field(attribute)?.data_type().clone();
        let null = ScalarValue::try_from(&data_type).map_err(from_datafusion)?;
        let is_nan = self.expressions(frame).function("isnan", vec![attribute.expr()], false)?;
        let branches = vec![(Box::new(is_nan), Box::new(Expr::Literal(null, None)))];
        Ok(Expr::Case(Case::new(None, branches, Some(Box::new(attribute.expr())))))
    }

    /// `fillna`.
    pub(super) fn fill_na(&mut self, frame: Frame, message: &spark::NaFill) -> Result<Frame> {
        let columns = self.subset(&frame, &message.cols)?;
        let values = message.values.iter().map(literal::scalar).collect::<Result<Vec<_>>>()?;
        let pairs: Vec<(Attribute, ScalarValue)> = match values.as_slice() {
            [one] => columns.into_iter().map(|column| (column, one.clone())).collect(),
            many if many.len() == columns.len() => columns.into_iter().zip(many.iter().cloned()).collect(),
            _ => {
                return Err(Error::invalid(
                    "CONNECT_INVALID_PLAN.NA_FILL",
                    "fillna has one value, or one for each column",
                ));
            }
        };
        let mut all = vec![];
        for column in frame.columns() {
            let data_type = frame.field(column)?.data_type().clone();
            let value = pairs.iter().find(|(wanted, _)| wanted.id == column.id).map(|(_, value)| value);
            let Some(value) = value.filter(|value| kind(&value.data_type()) == kind(&data_type)) else {
                all.push(Named::of_column(column.clone()));
                continue;
            };
            let fill = Expr::Cast(Cast::new(Box::new(Expr::Literal(value.clone(), None)), data_type));
            let own = self.nan_as_null(&frame, column)?;
            let expr = datafusion::functions::core::expr_fn::coalesce(vec![own, fill]);
            all.push(Named { metadata: column.metadata.clone(), ..Named::new(expr, &column.name) });
        }
        self.compute(frame, all)
    }

    /// `dropna`.
    pub(super) fn drop_na(&mut self, frame: Frame, message: &spark::NaDrop) -> Result<Frame> {
        let columns = self.subset(&frame, &message.cols)?;
        let least = message.min_non_nulls.unwrap_or_else(|| i32::try_from(columns.len()).unwrap_or(i32::MAX));
        let mut present = vec![];
        for column in &columns {
            present.push(self.nan_as_null(&frame, column)?.is_not_null());
        }
        let condition = if least as usize >= columns.len() {
            present.into_iter().reduce(Expr::and)
        } else {
            present
                .into_iter()
                .map(|present| {
                    let branches = vec![(Box::new(present), Box::new(lit(1_i32)))];
                    Expr::Case(Case::new(None, branches, Some(Box::new(lit(0_i32)))))
                })
                .reduce(|one, two| one + two)
                .map(|count| count.gt_eq(lit(least)))
        };
        match condition {
            Some(condition) => self.filtered(frame, condition, "dropna"),
            None => Ok(frame),
        }
    }

    /// `replace`.
    pub(super) fn replace(&mut self, frame: Frame, message: &spark::NaReplace) -> Result<Frame> {
        let columns = self.subset(&frame, &message.cols)?;
        let mut pairs = vec![];
        for replacement in &message.replacements {
            let old = literal::scalar(required(replacement.old_value.as_ref(), "a value to be replaced")?)?;
            let new = literal::scalar(required(replacement.new_value.as_ref(), "a value that replaces another")?)?;
            pairs.push((old, new));
        }
        let wanted =
            pairs.iter().map(|(old, new)| if old.is_null() { new } else { old }).find(|value| !value.is_null());
        let wanted = wanted.map_or(Kind::Other, |value| kind(&value.data_type()));
        let mut all = vec![];
        for column in frame.columns() {
            let data_type = frame.field(column)?.data_type().clone();
            if kind(&data_type) != wanted || !columns.iter().any(|known| known.id == column.id) {
                all.push(Named::of_column(column.clone()));
                continue;
            }
            let branches = pairs
                .iter()
                .map(|(old, new)| {
                    let same =
                        binary_expr(column.expr(), Operator::IsNotDistinctFrom, Expr::Literal(old.clone(), None));
                    let new = Expr::Cast(Cast::new(Box::new(Expr::Literal(new.clone(), None)), data_type.clone()));
                    (Box::new(same), Box::new(new))
                })
                .collect();
            let expr = Expr::Case(Case::new(None, branches, Some(Box::new(column.expr()))));
            all.push(Named { metadata: column.metadata.clone(), ..Named::new(expr, &column.name) });
        }
        self.compute(frame, all)
    }
}
