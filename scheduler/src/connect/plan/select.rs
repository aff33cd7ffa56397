//! Selections: columns that are computed, kept, renamed, left out.

use super::expression::{Generate, Item, Named, required, unsupported};
use super::frame::{Attribute, Frame, parse_name, project};
use super::{Planner, generate};
use crate::sql::error::from_datafusion;
use datafusion::logical_expr::expr::Cast;
use datafusion::logical_expr::utils::{find_aggregate_exprs, find_window_exprs};
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder};
use headwater_proto::error::{Error, Result};
use headwater_proto::spark;
use headwater_proto::spark::expression::ExprType;

impl Planner<'_> {
    /// `select`.
    pub(super) fn project(&mut self, frame: Frame, message: &spark::Project) -> Result<Frame> {
        let items = self.expressions(&frame).items(&message.expressions)?;
        self.select(frame, items)
    }

    /// A frame of these items.
    pub(super) fn select(&mut self, frame: Frame, items: Vec<Item>) -> Result<Frame> {
        let (frame, columns) = self.generated(frame, items)?;
        let aggregates = find_aggregate_exprs(columns.iter().map(|named| &named.expr));
        if !aggregates.is_empty() {
            return self.group(frame, vec![], None, columns);
        }
        self.compute(frame, columns)
    }

    /// Runs the generator among the items, of which there may be one.
    fn generated(&mut self, frame: Frame, items: Vec<Item>) -> Result<(Frame, Vec<Named>)> {
        let generators: Vec<&Generate> = items
            .iter()
            .filter_map(|item| match item {
                Item::Generate(generate) => Some(generate),
                Item::Column(_) => None,
            })
            .collect();
        if generators.len() > 1 {
            let names: Vec<_> = generators.iter().map(|generate| generate.function.as_str()).collect();
            return Err(Error::invalid(
                "UNSUPPORTED_GENERATOR.MULTI_GENERATOR",
                format!("only one generator allowed per SELECT clause but found {}: {}", names.len(), names.join(", ")),
            ));
        }
        let Some(generate) = generators.first().map(|generate| (*generate).clone()) else {
            let columns = items.into_iter().filter_map(|item| match item {
                Item::Column(named) => Some(named),
                Item::Generate(_) => None,
            });
            let columns = columns.collect();
            return Ok((frame, columns));
        };
        let shown = frame.columns().to_vec();
        let (plan, made) = generate::generate(&frame, &generate, &self.expressions(&frame), &self.ids)?;
        let mut all = shown;
        all.extend(made.iter().cloned());
        let frame = frame.with(plan, all);
        let mut columns = vec![];
        for item in items {
            match item {
                Item::Column(named) => columns.push(named),
                Item::Generate(_) => columns.extend(made.iter().cloned().map(Named::of_column)),
            }
        }
        Ok((frame, columns))
    }

    /// Columns without generators and aggregates. What was there stays, hidden.
    pub(super) fn compute(&mut self, frame: Frame, columns: Vec<Named>) -> Result<Frame> {
        let computed: Vec<&Named> = columns.iter().filter(|named| named.attribute.is_none()).collect();
        if computed.is_empty() {
            let shown = columns
                .into_iter()
                .filter_map(|named| {
                    let metadata = named.metadata.clone();
                    named.attribute.map(|attribute| Attribute { metadata, ..attribute })
                })
                .collect();
            return Ok(frame.showing(shown));
        }
        let plan = with_windows(frame.plan().clone(), computed.iter().map(|named| &named.expr))?;
        let mut exprs: Vec<Expr> = vec![];
        for attribute in frame.columns() {
            let expr = attribute.expr();
            if !exprs.contains(&expr) {
                exprs.push(expr);
            }
        }
        let mut shown = Vec::with_capacity(columns.len());
        for named in columns {
            if let Some(attribute) = named.attribute {
                // One that is hidden may be asked for by its DataFrame.
                if !exprs.contains(&named.expr) {
                    exprs.push(named.expr);
                }
                shown.push(attribute);
                continue;
            }
            let name = named.name().to_string();
            let id = self.ids.next(&name);
            exprs.push(unaliased(named.expr).alias(&id));
            shown.push(Attribute { id, name, qualifier: vec![], metadata: named.metadata });
        }
        Ok(frame.with(project(plan, exprs)?, shown))
    }

    /// `withColumn` and its like: columns of the same name are replaced where they stand.
    pub(super) fn with_columns(&mut self, frame: Frame, message: &spark::WithColumns) -> Result<Frame> {
        let mut expressions = Vec::with_capacity(message.aliases.len());
        let mut names: Vec<String> = vec![];
        for alias in &message.aliases {
            let [name] = alias.name.as_slice() else {
                return Err(unsupported("a new column with several names"));
            };
            if names.iter().any(|known| known.to_lowercase() == name.to_lowercase()) {
                return Err(Error::invalid(
                    "COLUMN_ALREADY_EXISTS",
                    format!(
                        "the column `{}` already exists: choose another name or rename the existing column",
                        name.to_lowercase()
                    ),
                ));
            }
            names.push(name.clone());
            expressions
                .push(spark::Expression { common: None, expr_type: Some(ExprType::Alias(Box::new(alias.clone()))) });
        }
        let made = self.expressions(&frame).items(&expressions)?;
        if made.len() != names.len() {
            return Err(unsupported("a new column that is several columns"));
        }
        let mut items: Vec<Item> = frame.columns().iter().cloned().map(|a| Item::Column(Named::of_column(a))).collect();
        for (name, item) in names.iter().zip(made) {
            let places = frame.positions(name);
            for place in &places {
                items[*place] = item.clone();
            }
            if places.is_empty() {
                items.push(item);
            }
        }
        self.select(frame, items)
    }

    /// `withColumnRenamed` and its like; names that are not there are passed over.
    pub(super) fn renamed(&mut self, frame: Frame, message: &spark::WithColumnsRenamed) -> Result<Frame> {
        let mut columns = frame.columns().to_vec();
        let pairs: Vec<(String, String)> = if message.renames.is_empty() {
            message.rename_columns_map.clone().into_iter().collect()
        } else {
            message.renames.iter().map(|rename| (rename.col_name.clone(), rename.new_col_name.clone())).collect()
        };
        for (from, to) in pairs {
            for column in columns.iter_mut().filter(|column| column.name.to_lowercase() == from.to_lowercase()) {
                column.name.clone_from(&to);
                column.qualifier.clear();
            }
        }
        Ok(frame.showing(columns))
    }

    /// `toDF`.
    pub(super) fn to_df(&mut self, frame: Frame, names: &[String]) -> Result<Frame> {
        if names.len() != frame.columns().len() {
            return Err(Error::invalid(
                "ASSIGNMENT_ARITY_MISMATCH",
                format!(
                    "the number of columns or variables assigned or aliased: {} does not match the number of source expressions: {}",
                    names.len(),
                    frame.columns().len()
                ),
            ));
        }
        let columns = frame
            .columns()
            .iter()
            .zip(names)
            .map(|(column, name)| Attribute { name: name.clone(), qualifier: vec![], ..column.clone() })
            .collect();
        Ok(frame.showing(columns))
    }

    /// `drop`: what is not there is passed over.
    pub(super) fn drop(&mut self, frame: Frame, message: &spark::Drop) -> Result<Frame> {
        let mut ids: Vec<String> = vec![];
        for name in &message.column_names {
            let exact: Vec<String> =
                frame.positions(name).into_iter().map(|at| frame.columns()[at].id.clone()).collect();
            if exact.is_empty()
                && let Ok(parts) = parse_name(name)
                && let Ok(found) = frame.find(&parts, false)
                && found.path.is_empty()
            {
                ids.push(found.attribute.id);
            }
            ids.extend(exact);
        }
        for expression in &message.columns {
            let named = match self.expressions(&frame).one(expression) {
                Ok(named) => named,
                Err(error)
                    if error.class.starts_with("UNRESOLVED_COLUMN")
                        || error.class == "CANNOT_RESOLVE_DATAFRAME_COLUMN" =>
                {
                    continue;
                }
                Err(error) => return Err(error),
            };
            ids.extend(named.attribute.map(|attribute| attribute.id));
        }
        let columns = frame.columns().iter().filter(|column| !ids.contains(&column.id)).cloned().collect();
        Ok(frame.showing(columns))
    }

    /// `to(schema)`: columns by name, in the schema's order, of its types.
    pub(super) fn to_schema(&mut self, frame: Frame, message: &spark::ToSchema) -> Result<Frame> {
        let data_type = super::types::from_proto(required(message.schema.as_ref(), "a schema")?)?;
        let arrow::datatypes::DataType::Struct(fields) = data_type else {
            return Err(Error::invalid("INVALID_SCHEMA.NON_STRUCT_TYPE", "the schema of a DataFrame is a struct"));
        };
        let mut columns = vec![];
        for field in &fields {
            let metadata = field.metadata().clone();
            let found = frame.positions(field.name());
            let (expr, given) = match found.as_slice() {
                [at] => {
                    let attribute = &frame.columns()[*at];
                    (attribute.expr(), Some(frame.field(attribute)?))
                }
                [] if field.is_nullable() => {
                    let null = datafusion::common::ScalarValue::try_from(field.data_type()).map_err(from_datafusion)?;
                    (Expr::Literal(null, None), None)
                }
                [] => {
                    return Err(frame
                        .find(std::slice::from_ref(field.name()), false)
                        .err()
                        .unwrap_or_else(|| Error::internal("was not found")));
                }
                _ => {
                    return Err(Error::invalid(
                        "AMBIGUOUS_COLUMN_OR_FIELD",
                        format!("column or field `{}` is ambiguous and has {} matches", field.name(), found.len()),
                    ));
                }
            };
            if let Some(given) = &given
                && given.is_nullable()
                && !field.is_nullable()
            {
                return Err(Error::invalid(
                    "NULLABLE_COLUMN_OR_FIELD",
                    format!("column or field `{}` is nullable while it's required to be non-nullable", field.name()),
                ));
            }
            let same = given.as_ref().is_none_or(|given| given.data_type() == field.data_type());
            let expr = if same { expr } else { Expr::Cast(Cast::new(Box::new(expr), field.data_type().clone())) };
            columns.push(Named { metadata, ..Named::new(expr, field.name()) });
        }
        self.compute(frame, columns)
    }

    /// `filter`.
    pub(super) fn filter(&mut self, frame: Frame, condition: &spark::Expression) -> Result<Frame> {
        let named = self.expressions(&frame).with_hidden().one(condition)?;
        self.filtered(frame, named.expr, &named.text)
    }

    /// Rows for which this is true.
    pub(super) fn filtered(&self, frame: Frame, condition: Expr, text: &str) -> Result<Frame> {
        let data_type = self.expressions(&frame).type_of(&condition)?;
        if !matches!(data_type, arrow::datatypes::DataType::Boolean | arrow::datatypes::DataType::Null) {
            return Err(Error::invalid(
                "DATATYPE_MISMATCH.FILTER_NOT_BOOLEAN",
                format!(
                    "cannot resolve \"{text}\" due to data type mismatch: filter expression must be a boolean, found {}",
                    super::frame::type_text(&data_type)
                ),
            ));
        }
        if !find_aggregate_exprs([&condition]).is_empty() {
            return Err(Error::invalid(
                "INVALID_WHERE_CONDITION",
                format!("the WHERE condition \"{text}\" contains an aggregate function: put it into a column first"),
            ));
        }
        if !find_window_exprs([&condition]).is_empty() {
            return Err(Error::invalid(
                "INVALID_WHERE_CONDITION",
                format!("the WHERE condition \"{text}\" contains a window function: put it into a column first"),
            ));
        }
        let plan = LogicalPlanBuilder::from(frame.plan().clone())
            .filter(condition)
            .and_then(LogicalPlanBuilder::build)
            .map_err(from_datafusion)?;
        Ok(frame.over(plan))
    }

    /// `sort`.
    pub(super) fn sort(&mut self, frame: Frame, message: &spark::Sort) -> Result<Frame> {
        let expressions = self.expressions(&frame).with_hidden();
        let keys = message.order.iter().map(|order| Ok(expressions.sort(order)?.0)).collect::<Result<Vec<_>>>()?;
        // A window function to sort by becomes a column first, which is then left out.
        let windows = find_window_exprs(keys.iter().map(|key| &key.expr));
        if !windows.is_empty() {
            let shown = frame.columns().to_vec();
            let mut columns: Vec<Named> = shown.iter().cloned().map(Named::of_column).collect();
            columns.extend(keys.iter().enumerate().map(|(at, key)| Named::new(key.expr.clone(), format!("key{at}"))));
            let count = shown.len();
            let computed = self.compute(frame, columns)?;
            let sorts = keys
                .iter()
                .zip(&computed.columns()[count..])
                .map(|(key, attribute)| {
                    datafusion::logical_expr::expr::Sort::new(attribute.expr(), key.asc, key.nulls_first)
                })
                .collect::<Vec<_>>();
            let plan = LogicalPlanBuilder::from(computed.plan().clone())
                .sort(sorts)
                .and_then(LogicalPlanBuilder::build)
                .map_err(from_datafusion)?;
            return Ok(computed.over(plan).showing(shown));
        }
        let plan = LogicalPlanBuilder::from(frame.plan().clone())
            .sort(keys)
            .and_then(LogicalPlanBuilder::build)
            .map_err(from_datafusion)?;
        Ok(frame.over(plan))
    }
}

/// The plan with what window functions compute: projections above refer to it by the functions themselves.
pub fn with_windows<'e>(plan: LogicalPlan, exprs: impl IntoIterator<Item = &'e Expr>) -> Result<LogicalPlan> {
    let windows = find_window_exprs(exprs);
    if windows.is_empty() {
        return Ok(plan);
    }
    LogicalPlanBuilder::window_plan(plan, windows).map_err(from_datafusion)
}

/// Names are given once, outermost.
pub fn unaliased(expr: Expr) -> Expr {
    match expr {
        Expr::Alias(alias) => unaliased(*alias.expr),
        other => other,
    }
}
