//! Expressions: Spark Connect's messages to DataFusion's expressions over a [`Frame`], each with the name that Spark
//! would give its column.

use super::frame::{Attribute, Found, Frame, Ids, parse_name, type_text};
use super::functions::{self, Call};
use super::{literal, sql_expression, types};
use crate::sql::error::from_datafusion;
use crate::sql::{names, windows};
use arrow::datatypes::{DataType, FieldRef};
use datafusion::common::{DFSchema, ScalarValue};
use datafusion::execution::SessionState;
use datafusion::functions::core::expr_fn::get_field;
use datafusion::functions_nested::expr_fn::{array_element, map_extract};
use datafusion::logical_expr::expr::{Cast, HigherOrderFunction, Lambda, LambdaVariable, Sort, TryCast};
use datafusion::logical_expr::expr::{WindowFunction, WindowFunctionParams};
use datafusion::logical_expr::{
    Expr, ExprSchemable, LambdaParametersProgress, Subquery, ValueOrLambda, WindowFrame, WindowFrameBound,
    WindowFrameUnits, WindowFunctionDefinition, lit,
};
use headwater_executor::functions::ddl;
use headwater_proto::error::{Error, Result};
use headwater_proto::spark;
use headwater_proto::spark::expression::cast::{CastToType, EvalMode};
use headwater_proto::spark::expression::sort_order::{NullOrdering, SortDirection};
use headwater_proto::spark::expression::window::window_frame::frame_boundary::Boundary;
use headwater_proto::spark::expression::window::window_frame::{FrameBoundary, FrameType};
use headwater_proto::spark::expression::{self as p, ExprType};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// Functions that make several rows of one.
const GENERATORS: &[&str] =
    &["explode", "explode_outer", "posexplode", "posexplode_outer", "inline", "inline_outer", "stack"];

/// Lambdas in lambdas deeper than this are a mistake, and so are other expressions: each level is a stack frame.
const DEPTH_MAX: usize = 400;

/// An expression with its name.
#[derive(Debug, Clone)]
pub struct Named {
    /// What it computes.
    pub expr: Expr,
    /// Its text inside the name of another expression.
    pub text: String,
    /// The name of its column, where that is not its text.
    pub output: Option<String>,
    /// Where it is a column as it stands: which.
    pub attribute: Option<Attribute>,
    /// What `alias(…, metadata=…)` attached.
    pub metadata: HashMap<String, String>,
}

impl Named {
    /// An expression of this text.
    pub fn new(expr: Expr, text: impl Into<String>) -> Self {
        Self { expr, text: text.into(), output: None, attribute: None, metadata: HashMap::new() }
    }

    /// A column as it stands.
    pub fn of_column(attribute: Attribute) -> Self {
        Self {
            expr: attribute.expr(),
            text: attribute.name.clone(),
            output: None,
            metadata: attribute.metadata.clone(),
            attribute: Some(attribute),
        }
    }

    /// The name of its column.
    pub fn name(&self) -> &str {
        self.output.as_deref().unwrap_or(&self.text)
    }
}

/// One item of a selection.
#[derive(Debug, Clone)]
#[expect(clippy::large_enum_variant, reason = "a few for each plan, and short-lived")]
pub enum Item {
    /// A column.
    Column(Named),
    /// Columns that a generator makes, with more rows.
    Generate(Generate),
}

/// A generator.
#[derive(Debug, Clone)]
pub struct Generate {
    /// Its name, without `_outer`.
    pub function: String,
    /// Whether a row without elements yields one of nulls.
    pub outer: bool,
    /// What it is given.
    pub arguments: Vec<Named>,
    /// Names of its columns; empty: its own.
    pub names: Vec<String>,
}

/// What expressions are translated in.
#[derive(Clone)]
pub struct Expressions<'a> {
    /// Functions and settings.
    pub state: &'a SessionState,
    /// For names of columns.
    pub ids: &'a Ids,
    /// The session's settings.
    pub conf: &'a BTreeMap<String, String>,
    /// Columns.
    pub frame: &'a Frame,
    /// Whether columns may be meant that are not selected any more.
    pub hidden: bool,
    /// Subqueries by plan id.
    pub subqueries: &'a HashMap<i64, Frame>,
    /// Variables of the lambdas around, innermost last.
    lambdas: Vec<(String, FieldRef)>,
    depth: usize,
}

impl<'a> Expressions<'a> {
    /// Over the columns of a frame.
    pub fn new(
        state: &'a SessionState,
        ids: &'a Ids,
        conf: &'a BTreeMap<String, String>,
        frame: &'a Frame,
        subqueries: &'a HashMap<i64, Frame>,
    ) -> Self {
        Self { state, ids, conf, frame, hidden: false, subqueries, lambdas: vec![], depth: 0 }
    }

    /// Columns that are not selected any more may be meant as well.
    #[must_use]
    pub fn with_hidden(mut self) -> Self {
        self.hidden = true;
        self
    }

    /// The schema that types are asked of.
    pub fn schema(&self) -> &DFSchema {
        self.frame.df_schema()
    }

    /// The type of an expression.
    ///
    /// # Errors
    /// `DATATYPE_MISMATCH` and others of DataFusion.
    pub fn type_of(&self, expr: &Expr) -> Result<DataType> {
        expr.get_type(self.schema()).map_err(from_datafusion)
    }

    /// One expression that is one column.
    ///
    /// # Errors
    /// Spark's classes.
    pub fn one(&self, expression: &spark::Expression) -> Result<Named> {
        if self.depth > DEPTH_MAX {
            return Err(Error::invalid(
                "CONNECT_INVALID_PLAN.EXPRESSION_NESTED_TOO_DEEPLY",
                format!("an expression is nested more than {DEPTH_MAX} deep"),
            ));
        }
        let Some(kind) = &expression.expr_type else {
            return Err(unsupported("an expression of a kind that this server does not know"));
        };
        let mut inner = self.clone();
        inner.depth += 1;
        super::with_stack(|| inner.kind(kind))
    }

    fn kind(&self, kind: &ExprType) -> Result<Named> {
        match kind {
            ExprType::Literal(message) => {
                let value = literal::scalar(message)?;
                let text = literal::name(&value);
                Ok(Named::new(Expr::Literal(value, None), text))
            }
            ExprType::UnresolvedAttribute(attribute) => self.attribute(attribute),
            ExprType::UnresolvedFunction(function) => {
                if function.is_user_defined_function && !self.knows(&function.function_name) {
                    return Err(unresolved_routine(&function.function_name));
                }
                self.call(&function.function_name, &function.arguments, function.is_distinct)
            }
            ExprType::CallFunction(function) => {
                let parts = parse_name(&function.function_name)?;
                self.call(parts.last().map_or("", String::as_str), &function.arguments, false)
            }
            ExprType::ExpressionString(text) => self.one(&sql_expression::parse(&text.expression)?),
            ExprType::Alias(alias) => {
                let [name] = alias.name.as_slice() else {
                    return Err(Error::invalid(
                        "INVALID_COLUMN_NAME_AS_PATH",
                        format!("{} names for one column: several are for explode and its like", alias.name.len()),
                    ));
                };
                let named = self.one(required(alias.expr.as_deref(), "the expression of an alias")?)?;
                let metadata = alias.metadata.as_deref().map(types::parse_metadata).transpose()?;
                Ok(Named {
                    text: format!("{} AS {name}", named.text),
                    output: Some(name.clone()),
                    attribute: None,
                    metadata: metadata.unwrap_or(named.metadata),
                    expr: named.expr,
                })
            }
            ExprType::Cast(cast) => self.cast(cast),
            ExprType::SortOrder(order) => {
                Err(unsupported(&format!("a sort order inside an expression: {}", self.sort(order)?.1)))
            }
            ExprType::Window(window) => self.window(window),
            ExprType::UnresolvedExtractValue(extract) => {
                let child = self.one(required(extract.child.as_deref(), "what a value is taken out of")?)?;
                let key = self.one(required(extract.extraction.as_deref(), "the key of a value")?)?;
                self.extract(&child, &key)
            }
            ExprType::UpdateFields(update) => self.update_fields(update),
            ExprType::UnresolvedNamedLambdaVariable(variable) => self.variable(&variable.name_parts),
            ExprType::LambdaFunction(_) => Err(Error::invalid(
                "INVALID_LAMBDA_FUNCTION_CALL.NON_HIGHER_ORDER_FUNCTION",
                "a lambda is an argument of functions such as transform and filter",
            )),
            ExprType::NamedArgumentExpression(argument) => Err(Error::invalid(
                "NAMED_PARAMETERS_NOT_SUPPORTED",
                format!("named argument {}: give arguments by position", argument.key),
            )),
            ExprType::SubqueryExpression(subquery) => self.subquery(subquery),
            ExprType::UnresolvedStar(_) | ExprType::UnresolvedRegex(_) => Err(Error::invalid(
                "INVALID_USAGE_OF_STAR_OR_REGEX",
                "invalid usage of '*' in an expression: it stands for columns, in a selection or in a call",
            )),
            ExprType::CommonInlineUserDefinedFunction(function) => Err(Error::invalid(
                "UNSUPPORTED_FEATURE.PYTHON_UDF",
                format!(
                    "function {} is a user-defined function: this engine runs no Python or JVM code; use SQL functions",
                    function.function_name
                ),
            )),
            ExprType::TypedAggregateExpression(_) => Err(Error::invalid(
                "UNSUPPORTED_FEATURE.TYPED_AGGREGATE",
                "typed aggregate expressions are JVM code, which this engine does not run",
            )),
            ExprType::MergeAction(_) => Err(unsupported("an action of MERGE outside of MERGE")),
            ExprType::DirectShufflePartitionId(_) => Err(unsupported("repartitioning by a partition id")),
            ExprType::Extension(_) => Err(unsupported("an extension of Spark Connect")),
        }
    }

    /// A selection: stars, regular expressions and multiple aliases become their columns.
    ///
    /// # Errors
    /// As [`Self::one`].
    pub fn items(&self, expressions: &[spark::Expression]) -> Result<Vec<Item>> {
        let mut items = Vec::with_capacity(expressions.len());
        for expression in expressions {
            self.item(expression, &[], &mut items)?;
        }
        Ok(items)
    }

    /// A selection without generators.
    ///
    /// # Errors
    /// `UNSUPPORTED_GENERATOR.…`, and as [`Self::one`].
    pub fn columns(&self, expressions: &[spark::Expression]) -> Result<Vec<Named>> {
        self.items(expressions)?
            .into_iter()
            .map(|item| match item {
                Item::Column(named) => Ok(named),
                Item::Generate(generate) => Err(Error::invalid(
                    "UNSUPPORTED_GENERATOR.OUTSIDE_SELECT",
                    format!("the generator {} is not supported outside the SELECT clause", generate.function),
                )),
            })
            .collect()
    }

    fn item(&self, expression: &spark::Expression, names: &[String], items: &mut Vec<Item>) -> Result<()> {
        match &expression.expr_type {
            Some(ExprType::UnresolvedStar(star)) => {
                items.extend(self.star(star)?.into_iter().map(Item::Column));
                Ok(())
            }
            Some(ExprType::UnresolvedRegex(regex)) => {
                items.extend(self.regex(regex)?.into_iter().map(Item::Column));
                Ok(())
            }
            Some(ExprType::ExpressionString(text)) => {
                self.item(&sql_expression::parse(&text.expression)?, names, items)
            }
            Some(ExprType::Alias(alias)) if names.is_empty() => {
                let inner = required(alias.expr.as_deref(), "the expression of an alias")?;
                let multiple = alias.name.len() > 1 || self.generator(inner).is_some();
                if !multiple {
                    items.push(Item::Column(self.one(expression)?));
                    return Ok(());
                }
                self.item(inner, &alias.name, items)
            }
            Some(ExprType::UnresolvedFunction(p::UnresolvedFunction { function_name, arguments, .. }))
                if function_name.eq_ignore_ascii_case("json_tuple") =>
            {
                self.json_tuple(arguments, names, items)
            }
            _ => match self.generator(expression) {
                Some((name, arguments)) => {
                    let arguments = arguments.iter().map(|argument| self.one(argument)).collect::<Result<_>>()?;
                    let function = name.strip_suffix("_outer").unwrap_or(&name).to_string();
                    let outer = function != name;
                    items.push(Item::Generate(Generate { function, outer, arguments, names: names.to_vec() }));
                    Ok(())
                }
                None if names.len() > 1 => Err(Error::invalid(
                    "MULTI_ALIAS_WITHOUT_GENERATOR",
                    format!(
                        "multi part aliasing ({}) is not supported with an expression that is no generator",
                        names.join(", ")
                    ),
                )),
                None => {
                    items.push(Item::Column(self.one(expression)?));
                    Ok(())
                }
            },
        }
    }

    fn generator<'e>(&self, expression: &'e spark::Expression) -> Option<(String, &'e [spark::Expression])> {
        let (name, arguments) = match &expression.expr_type {
            Some(ExprType::UnresolvedFunction(function)) => (&function.function_name, &function.arguments),
            Some(ExprType::CallFunction(function)) => (&function.function_name, &function.arguments),
            _ => return None,
        };
        let name = name.to_ascii_lowercase();
        GENERATORS.contains(&name.as_str()).then_some((name, arguments))
    }

    /// `json_tuple(json, 'a', 'b')` makes columns and no rows.
    fn json_tuple(&self, arguments: &[spark::Expression], names: &[String], items: &mut Vec<Item>) -> Result<()> {
        let arguments = arguments.iter().map(|argument| self.one(argument)).collect::<Result<Vec<_>>>()?;
        let [json, keys @ ..] = arguments.as_slice() else {
            return Err(wrong_arguments("json_tuple", 0));
        };
        if !names.is_empty() && names.len() != keys.len() {
            return Err(aliases_mismatch("json_tuple", keys.len(), names.len()));
        }
        for (index, key) in keys.iter().enumerate() {
            let path = match key.expr.as_literal() {
                Some(ScalarValue::Utf8(Some(key))) => lit(format!("$.{key}")),
                _ => return Err(unsupported("json_tuple with a field name that is no literal")),
            };
            let expr = self.function("get_json_object", vec![json.expr.clone(), path], false)?;
            let name = names.get(index).cloned().unwrap_or_else(|| format!("c{index}"));
            items.push(Item::Column(Named::new(expr, name)));
        }
        Ok(())
    }

    fn star(&self, star: &p::UnresolvedStar) -> Result<Vec<Named>> {
        if let Some(plan_id) = star.plan_id {
            return Ok(self.frame.columns_of(plan_id).into_iter().map(Named::of_column).collect());
        }
        let Some(target) = star.unparsed_target.as_deref() else {
            return Ok(self.frame.columns().iter().cloned().map(Named::of_column).collect());
        };
        let parts = parse_name(target.strip_suffix(".*").unwrap_or(target))?;
        if let Some(columns) = self.frame.qualified(&parts) {
            return Ok(columns.into_iter().map(Named::of_column).collect());
        }
        let found = self.frame.find(&parts, self.hidden)?;
        let (expr, text) = self.path(&found)?;
        match self.type_of(&expr)? {
            DataType::Struct(fields) => Ok(fields
                .iter()
                .map(|field| {
                    let mut named =
                        Named::new(get_field(expr.clone(), field.name().as_str()), format!("{text}.{}", field.name()));
                    named.output = Some(field.name().clone());
                    named
                })
                .collect()),
            other => Err(Error::invalid(
                "CANNOT_RESOLVE_STAR_EXPAND",
                format!(
                    "cannot resolve {target}: {text} is of type {}, not a struct or a table",
                    ddl::type_name(&other)
                ),
            )),
        }
    }

    fn regex(&self, regex: &p::UnresolvedRegex) -> Result<Vec<Named>> {
        let pattern = regex.col_name.trim_matches('`');
        let compiled = regex_of(pattern)?;
        let columns = match regex.plan_id {
            Some(plan_id) => self.frame.columns_of(plan_id),
            None => self.frame.columns().to_vec(),
        };
        Ok(columns.into_iter().filter(|column| compiled(&column.name)).map(Named::of_column).collect())
    }

    fn attribute(&self, attribute: &p::UnresolvedAttribute) -> Result<Named> {
        let parts = parse_name(&attribute.unparsed_identifier)?;
        if attribute.plan_id.is_none() && self.lambdas.iter().any(|(name, _)| name.eq_ignore_ascii_case(&parts[0])) {
            return self.variable(&parts);
        }
        let found = match attribute.plan_id {
            Some(plan_id) => self.frame.find_of(plan_id, &parts, self.hidden)?,
            None => self.frame.find(&parts, self.hidden)?,
        };
        // As it was asked for: names ignore case, and columns are called as they are spelled here.
        if found.path.is_empty() {
            let name = parts.last().cloned().unwrap_or_default();
            return Ok(Named::of_column(Attribute { name, ..found.attribute }));
        }
        let (expr, text) = self.path(&found)?;
        let output = found.path.last().cloned();
        Ok(Named { output, ..Named::new(expr, text) })
    }

    fn path(&self, found: &Found) -> Result<(Expr, String)> {
        let mut named = Named::of_column(found.attribute.clone());
        for field in &found.path {
            let key = Named::new(lit(field.as_str()), field.clone());
            named = self.extract(&named, &key)?;
        }
        Ok((named.expr, named.text))
    }

    fn variable(&self, parts: &[String]) -> Result<Named> {
        let [name, path @ ..] = parts else {
            return Err(Error::internal("a lambda variable without a name"));
        };
        let Some((known, field)) = self.lambdas.iter().rev().find(|(known, _)| known.eq_ignore_ascii_case(name)) else {
            return self.attribute(&p::UnresolvedAttribute {
                unparsed_identifier: parts
                    .iter()
                    .map(|part| format!("`{}`", part.replace('`', "``")))
                    .collect::<Vec<_>>()
                    .join("."),
                plan_id: None,
                is_metadata_column: None,
            });
        };
        let variable = LambdaVariable::new(known.clone(), Some(Arc::clone(field)));
        let mut named = Named::new(Expr::LambdaVariable(variable), "namedlambdavariable()");
        for part in path {
            let key = Named::new(lit(part.as_str()), part.clone());
            named = self.extract(&named, &key)?;
        }
        Ok(named)
    }

    /// `child[key]`, `child.key`.
    fn extract(&self, child: &Named, key: &Named) -> Result<Named> {
        let data_type = self.type_of(&child.expr)?;
        let name = match key.expr.as_literal() {
            Some(ScalarValue::Utf8(Some(name))) => Some(name.clone()),
            _ => None,
        };
        match (&data_type, name) {
            (DataType::Struct(fields), Some(name)) => {
                let field = field_of(fields, &name)?;
                Ok(Named::new(
                    get_field(child.expr.clone(), field.name().as_str()),
                    format!("{}.{}", child.text, field.name()),
                ))
            }
            (DataType::List(item), Some(name)) if matches!(item.data_type(), DataType::Struct(_)) => {
                let DataType::Struct(fields) = item.data_type() else { return Err(Error::internal("was a struct")) };
                let field = field_of(fields, &name)?;
                let variable = LambdaVariable::new("element".into(), Some(Arc::clone(item)));
                let body = get_field(Expr::LambdaVariable(variable), field.name().as_str());
                let transform = self.higher_order("array_transform")?;
                let lambda = Expr::Lambda(Lambda::new(vec!["element".into()], body));
                let expr =
                    Expr::HigherOrderFunction(HigherOrderFunction::new(transform, vec![child.expr.clone(), lambda]));
                Ok(Named::new(expr, format!("{}.{}", child.text, field.name())))
            }
            (DataType::List(_) | DataType::LargeList(_), _) => {
                let text = format!("{}[{}]", child.text, key.text);
                if let Some(resolved) = self.special("getItem", vec![child.expr.clone(), key.expr.clone()])? {
                    return Ok(Named::new(resolved, text));
                }
                let index = Expr::Cast(Cast::new(Box::new(key.expr.clone()), DataType::Int64));
                Ok(Named::new(array_element(child.expr.clone(), index + lit(1_i64)), text))
            }
            (DataType::Map(entries, _), _) => {
                let key_type = match entries.data_type() {
                    DataType::Struct(parts) => parts[0].data_type().clone(),
                    other => other.clone(),
                };
                let found = self.type_of(&key.expr)?;
                let wanted = if found == key_type {
                    key.expr.clone()
                } else {
                    Expr::Cast(Cast::new(Box::new(key.expr.clone()), key_type))
                };
                Ok(Named::new(
                    array_element(map_extract(child.expr.clone(), wanted), lit(1_i64)),
                    format!("{}[{}]", child.text, key.text),
                ))
            }
            (other, _) => Err(Error::invalid(
                "INVALID_EXTRACT_BASE_FIELD_TYPE",
                format!(
                    "can't extract a value from \"{}\": need a complex type [STRUCT, ARRAY, MAP] but got {}",
                    child.text,
                    type_text(other)
                ),
            )),
        }
    }

    fn cast(&self, cast: &p::Cast) -> Result<Named> {
        let child = self.one(required(cast.expr.as_deref(), "what is cast")?)?;
        let data_type = match cast.cast_to_type.as_ref() {
            Some(CastToType::Type(data_type)) => types::from_proto(data_type)?,
            Some(CastToType::TypeStr(text)) => ddl::parse_type(text)?,
            None => return Err(Error::invalid("CONNECT_INVALID_PLAN.FIELD_IS_NOT_SET", "a cast without a type")),
        };
        let is_try = cast.eval_mode() == EvalMode::Try;
        let lenient =
            is_try || cast.eval_mode() == EvalMode::Legacy || cast.eval_mode() == EvalMode::Unspecified && !self.ansi();
        let output = (child.attribute.is_some() || child.output.is_some()).then(|| child.name().to_string());
        let text = names::cast(&child.text, &ddl::type_name(&data_type), is_try);
        let expr = if lenient {
            Expr::TryCast(TryCast::new(Box::new(child.expr), data_type))
        } else {
            Expr::Cast(Cast::new(Box::new(child.expr), data_type))
        };
        Ok(Named { output, ..Named::new(expr, text) })
    }

    /// Whether wrong values are errors, as they are unless `spark.sql.ansi.enabled` is false.
    pub fn ansi(&self) -> bool {
        self.conf.get("spark.sql.ansi.enabled").is_none_or(|value| !value.trim().eq_ignore_ascii_case("false"))
    }

    /// A sort order and its text.
    ///
    /// # Errors
    /// As [`Self::one`].
    pub fn sort(&self, order: &p::SortOrder) -> Result<(Sort, String)> {
        let child = self.one(required(order.child.as_deref(), "what is sorted by")?)?;
        let ascending = order.direction() != SortDirection::Descending;
        let nulls_first = match order.null_ordering() {
            NullOrdering::SortNullsFirst => true,
            NullOrdering::SortNullsLast => false,
            NullOrdering::SortNullsUnspecified => ascending,
        };
        let text = names::sort_key(&child.text, ascending, nulls_first);
        Ok((Sort::new(child.expr, ascending, nulls_first), text))
    }

    /// An expression as a sort order, ascending unless it says otherwise.
    ///
    /// # Errors
    /// As [`Self::one`].
    pub fn sort_expression(&self, expression: &spark::Expression) -> Result<Sort> {
        match &expression.expr_type {
            Some(ExprType::SortOrder(order)) => Ok(self.sort(order)?.0),
            _ => Ok(Sort::new(self.one(expression)?.expr, true, true)),
        }
    }

    fn window(&self, window: &p::Window) -> Result<Named> {
        let function = self.one(required(window.window_function.as_deref(), "the function of a window")?)?;
        let partition_by = window.partition_spec.iter().map(|expr| self.one(expr)).collect::<Result<Vec<_>>>()?;
        let order_by = window.order_spec.iter().map(|order| self.sort(order)).collect::<Result<Vec<_>>>()?;
        let sorted = !order_by.is_empty();
        let mut keys: Vec<Sort> = order_by.iter().map(|(sort, _)| sort.clone()).collect();
        let (definition, mut params) = match function.expr {
            Expr::AggregateFunction(call) => {
                let params = WindowFunctionParams {
                    args: call.params.args,
                    partition_by: vec![],
                    order_by: vec![],
                    window_frame: WindowFrame::new(None),
                    filter: call.params.filter,
                    null_treatment: call.params.null_treatment,
                    distinct: call.params.distinct,
                };
                (WindowFunctionDefinition::AggregateUDF(call.func), params)
            }
            Expr::WindowFunction(call) => (call.fun, call.params),
            other => {
                return Err(Error::invalid(
                    "UNSUPPORTED_EXPR_FOR_WINDOW",
                    format!("expression \"{}\" not supported within a window function: {other}", function.text),
                ));
            }
        };
        let ranking = matches!(&definition, WindowFunctionDefinition::WindowUDF(function)
            if !["first_value", "last_value", "nth_value"].contains(&function.name()));
        if matches!(&definition, WindowFunctionDefinition::WindowUDF(function) if windows::needs_order(function.name()))
            && !sorted
        {
            return Err(windows::not_ordered(&function.text));
        }
        if params.distinct {
            return Err(windows::distinct(&function.text));
        }
        let (frame, frame_text) = match &window.frame_spec {
            Some(spec) if spec.frame_type() != FrameType::Undefined => self.window_frame(spec)?,
            _ if ranking && !["lag", "lead"].contains(&definition_name(&definition)) => (
                WindowFrame::new_bounds(
                    WindowFrameUnits::Rows,
                    WindowFrameBound::Preceding(ScalarValue::UInt64(None)),
                    WindowFrameBound::CurrentRow,
                ),
                "ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW".to_string(),
            ),
            _ if ranking => (WindowFrame::new(Some(false)), String::new()),
            _ if sorted => {
                (WindowFrame::new(Some(false)), "RANGE BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW".to_string())
            }
            _ => (WindowFrame::new(None), "ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING".to_string()),
        };
        frame.regularize_order_bys(&mut keys).map_err(from_datafusion)?;
        params.partition_by = partition_by.iter().map(|named| named.expr.clone()).collect();
        params.order_by = keys;
        params.window_frame = frame;
        let text = names::over(
            &function.text,
            &partition_by.iter().map(|named| named.text.clone()).collect::<Vec<_>>(),
            &order_by.iter().map(|(_, text)| text.clone()).collect::<Vec<_>>(),
            &frame_text,
        );
        Ok(Named::new(Expr::WindowFunction(Box::new(WindowFunction { fun: definition, params })), text))
    }

    fn window_frame(&self, spec: &p::window::WindowFrame) -> Result<(WindowFrame, String)> {
        let rows = spec.frame_type() == FrameType::Row;
        let (units, word) = if rows { (WindowFrameUnits::Rows, "ROWS") } else { (WindowFrameUnits::Range, "RANGE") };
        let (start, start_text) = self.boundary(spec.lower.as_deref(), rows, true)?;
        let (end, end_text) = self.boundary(spec.upper.as_deref(), rows, false)?;
        Ok((WindowFrame::new_bounds(units, start, end), format!("{word} BETWEEN {start_text} AND {end_text}")))
    }

    fn boundary(
        &self,
        boundary: Option<&FrameBoundary>,
        rows: bool,
        lower: bool,
    ) -> Result<(WindowFrameBound, String)> {
        let unbounded = || if rows { ScalarValue::UInt64(None) } else { ScalarValue::Null };
        match boundary.and_then(|boundary| boundary.boundary.as_ref()) {
            Some(Boundary::CurrentRow(_)) => Ok((WindowFrameBound::CurrentRow, "CURRENT ROW".into())),
            Some(Boundary::Unbounded(_)) | None if lower => {
                Ok((WindowFrameBound::Preceding(unbounded()), "UNBOUNDED PRECEDING".into()))
            }
            Some(Boundary::Unbounded(_)) | None => {
                Ok((WindowFrameBound::Following(unbounded()), "UNBOUNDED FOLLOWING".into()))
            }
            Some(Boundary::Value(value)) => {
                let named = self.one(value)?;
                let number = match named.expr.as_literal() {
                    Some(ScalarValue::Int8(Some(n))) => Some(i64::from(*n)),
                    Some(ScalarValue::Int16(Some(n))) => Some(i64::from(*n)),
                    Some(ScalarValue::Int32(Some(n))) => Some(i64::from(*n)),
                    Some(ScalarValue::Int64(Some(n))) => Some(*n),
                    _ => None,
                };
                let Some(number) = number else {
                    return Err(unsupported(&format!("the window frame boundary {}: use a whole number", named.text)));
                };
                if number == 0 {
                    return Ok((WindowFrameBound::CurrentRow, "CURRENT ROW".into()));
                }
                let size = number.unsigned_abs();
                // A range's size gets the type of what is sorted by when types are coerced.
                let value =
                    if rows { ScalarValue::UInt64(Some(size)) } else { ScalarValue::Utf8(Some(size.to_string())) };
                let (bound, word) = if number < 0 {
                    (WindowFrameBound::Preceding(value), "PRECEDING")
                } else {
                    (WindowFrameBound::Following(value), "FOLLOWING")
                };
                Ok((bound, format!("{size} {word}")))
            }
        }
    }

    fn update_fields(&self, update: &p::UpdateFields) -> Result<Named> {
        let child = self.one(required(update.struct_expression.as_deref(), "the struct whose fields are changed")?)?;
        let value = update.value_expression.as_deref().map(|value| self.one(value)).transpose()?;
        let path = parse_name(&update.field_name)?;
        let expr = self.updated(&child.expr, &path, value.as_ref().map(|value| &value.expr))?;
        let change = match &value {
            Some(value) => format!("WithField({})", value.text),
            None => "dropfield()".into(),
        };
        Ok(Named::new(expr, format!("update_fields({}, {change})", child.text)))
    }

    fn updated(&self, base: &Expr, path: &[String], value: Option<&Expr>) -> Result<Expr> {
        let DataType::Struct(fields) = self.type_of(base)? else {
            return Err(Error::invalid(
                "DATATYPE_MISMATCH.UNEXPECTED_INPUT_TYPE",
                format!(
                    "the first parameter of update_fields requires the \"STRUCT\" type, found {}",
                    type_text(&self.type_of(base)?)
                ),
            ));
        };
        let Some((name, rest)) = path.split_first() else { return Ok(base.clone()) };
        let mut arguments = vec![];
        let mut found = false;
        for field in &fields {
            let own = get_field(base.clone(), field.name().as_str());
            if !field.name().eq_ignore_ascii_case(name) {
                arguments.extend([lit(field.name().as_str()), own]);
                continue;
            }
            found = true;
            if rest.is_empty() {
                if let Some(value) = value {
                    arguments.extend([lit(name.as_str()), value.clone()]);
                }
            } else {
                arguments.extend([lit(field.name().as_str()), self.updated(&own, rest, value)?]);
            }
        }
        match (found, value) {
            (false, Some(value)) if rest.is_empty() => arguments.extend([lit(name.as_str()), value.clone()]),
            (false, Some(_)) => {
                return Err(Error::invalid("FIELD_NOT_FOUND", format!("no such struct field `{name}`")));
            }
            _ => {}
        }
        if arguments.is_empty() {
            return Err(Error::invalid(
                "DATATYPE_MISMATCH.CANNOT_DROP_ALL_FIELDS",
                "cannot drop all fields in a struct",
            ));
        }
        let made = self.function("named_struct", arguments, false)?;
        let null = ScalarValue::try_from(&self.type_of(&made)?).map_err(from_datafusion)?;
        datafusion::logical_expr::when(base.clone().is_null(), Expr::Literal(null, None))
            .otherwise(made)
            .map_err(from_datafusion)
    }

    fn subquery(&self, subquery: &spark::SubqueryExpression) -> Result<Named> {
        use spark::subquery_expression::SubqueryType;
        let Some(frame) = self.subqueries.get(&subquery.plan_id) else {
            return Err(Error::invalid(
                "CONNECT_INVALID_PLAN.SUBQUERY_NOT_FOUND",
                format!("the subquery of plan {} was not sent", subquery.plan_id),
            ));
        };
        let plan = frame.clone().sealed(self.ids)?;
        let query = Subquery {
            subquery: Arc::new(plan.plan().clone()),
            outer_ref_columns: vec![],
            spans: datafusion::common::Spans::new(),
        };
        let one_column = |what: &str| {
            if plan.columns().len() == 1 {
                return Ok(());
            }
            Err(Error::invalid(
                "INVALID_SUBQUERY_EXPRESSION.SCALAR_SUBQUERY_RETURN_MORE_THAN_ONE_OUTPUT_COLUMN",
                format!("{what} must return only one column, but returned {}", plan.columns().len()),
            ))
        };
        match subquery.subquery_type() {
            SubqueryType::Scalar => {
                one_column("scalar subquery")?;
                Ok(Named::new(Expr::ScalarSubquery(query), "scalarsubquery()"))
            }
            SubqueryType::Exists => {
                let exists = datafusion::logical_expr::expr::Exists::new(query, false);
                Ok(Named::new(Expr::Exists(exists), "exists()"))
            }
            SubqueryType::In => {
                one_column("IN subquery")?;
                let [value] = subquery.in_subquery_values.as_slice() else {
                    return Err(unsupported("IN of a subquery with several columns"));
                };
                let value = self.one(value)?;
                let text = format!("({} IN (listquery()))", value.text);
                let found = datafusion::logical_expr::expr::InSubquery::new(Box::new(value.expr), query, false);
                Ok(Named::new(Expr::InSubquery(found), text))
            }
            SubqueryType::TableArg | SubqueryType::Unknown => Err(unsupported("a table as an argument of a function")),
        }
    }

    /// A call by name.
    fn call(&self, name: &str, arguments: &[spark::Expression], distinct: bool) -> Result<Named> {
        let lower = name.to_ascii_lowercase();
        if GENERATORS.contains(&lower.as_str()) {
            return Err(Error::invalid(
                "UNSUPPORTED_GENERATOR.NESTED_IN_EXPRESSIONS",
                format!("the generator {name} is not supported nested in expressions: put it into a column of its own"),
            ));
        }
        let is_star = |argument: &spark::Expression| {
            matches!(
                &argument.expr_type,
                Some(ExprType::UnresolvedStar(p::UnresolvedStar { unparsed_target: None, .. }))
            )
        };
        if lower == "count" && !distinct && matches!(arguments, [star] if is_star(star)) {
            let expr = self.function("count", vec![lit(1_i64)], false)?;
            return Ok(Named::new(expr, "count(1)"));
        }
        if arguments.iter().any(|argument| matches!(argument.expr_type, Some(ExprType::LambdaFunction(_)))) {
            return self.higher_order_call(name, arguments);
        }
        // Sort orders stand in calls only where a function takes them.
        let mut given = Vec::with_capacity(arguments.len());
        for argument in arguments {
            match &argument.expr_type {
                Some(ExprType::UnresolvedStar(star)) => given.extend(self.star(star)?),
                _ => given.push(self.one(argument)?),
            }
        }
        if matches!(lower.as_str(), "struct" | "named_struct") {
            return self.structure(&lower, given);
        }
        let texts: Vec<String> = given.iter().map(|named| named.text.clone()).collect();
        let text = names::call(name, &texts, distinct);
        let call = Call {
            name: &lower,
            arguments: given.into_iter().map(|named| named.expr).collect(),
            distinct,
            schema: self.schema(),
            state: self.state,
            conf: self.conf,
        };
        let expr = functions::resolve(call)?;
        Ok(Named::new(expr, text))
    }

    fn structure(&self, name: &str, given: Vec<Named>) -> Result<Named> {
        let texts: Vec<String> = given.iter().map(|named| named.text.clone()).collect();
        let text = names::call(name, &texts, false);
        if name == "named_struct" {
            let expr = self.function("named_struct", given.into_iter().map(|named| named.expr).collect(), false)?;
            return Ok(Named::new(expr, text));
        }
        let arguments = given
            .into_iter()
            .enumerate()
            .flat_map(|(index, named)| {
                let own = named.attribute.is_some() || named.output.is_some();
                let name = if own { named.name().to_string() } else { format!("col{}", index + 1) };
                [lit(name), named.expr]
            })
            .collect();
        Ok(Named::new(self.function("named_struct", arguments, false)?, text))
    }

    /// A function of this name over expressions.
    ///
    /// # Errors
    /// `UNRESOLVED_ROUTINE`, `WRONG_NUM_ARGS`, `DATATYPE_MISMATCH`.
    pub fn function(&self, name: &str, arguments: Vec<Expr>, distinct: bool) -> Result<Expr> {
        let (schema, state, conf) = (self.schema(), self.state, self.conf);
        functions::resolve(Call { name, arguments, distinct, schema, state, conf })
    }

    /// A function that is there only when somebody registered it.
    fn special(&self, name: &str, arguments: Vec<Expr>) -> Result<Option<Expr>> {
        if self.state.scalar_functions().contains_key(name) {
            return self.function(name, arguments, false).map(Some);
        }
        Ok(None)
    }

    fn knows(&self, name: &str) -> bool {
        functions::exists(self.state, name)
    }

    fn higher_order(&self, name: &str) -> Result<Arc<datafusion::logical_expr::HigherOrderUDF>> {
        self.state.higher_order_functions().get(name).cloned().ok_or_else(|| unresolved_routine(name))
    }

    /// A call with lambdas: their parameters' types follow from the other arguments, in as many steps as the function
    /// asks for (the accumulator of `aggregate` is known when its start is).
    fn higher_order_call(&self, name: &str, arguments: &[spark::Expression]) -> Result<Named> {
        let lower = name.to_ascii_lowercase();
        let known = self.state.higher_order_functions();
        let function = match known.get(lower.as_str()) {
            Some(function) => Arc::clone(function),
            None => self.higher_order(match lower.as_str() {
                "transform" => "array_transform",
                "filter" => "array_filter",
                "exists" => "array_any_match",
                other => other,
            })?,
        };
        let mut given: Vec<ValueOrLambda<Named, &p::LambdaFunction>> = vec![];
        for argument in arguments {
            given.push(match &argument.expr_type {
                Some(ExprType::LambdaFunction(lambda)) => ValueOrLambda::Lambda(lambda),
                _ => ValueOrLambda::Value(self.one(argument)?),
            });
        }
        let field_of = |expr: &Expr| expr.to_field(self.schema()).map(|(_, field)| field).map_err(from_datafusion);
        let mut fields: Vec<ValueOrLambda<FieldRef, Option<FieldRef>>> = given
            .iter()
            .map(|argument| {
                Ok(match argument {
                    ValueOrLambda::Value(named) => ValueOrLambda::Value(field_of(&named.expr)?),
                    ValueOrLambda::Lambda(_) => ValueOrLambda::Lambda(None),
                })
            })
            .collect::<Result<_>>()?;
        let steps = function.signature().lambda_parameters_max_iterations;
        for step in 0..=steps {
            match function.lambda_parameters(step, &fields).map_err(from_datafusion)? {
                LambdaParametersProgress::Partial(parameters) => {
                    let mut parameters = parameters.into_iter();
                    for (argument, field) in given.iter().zip(&mut fields) {
                        let (ValueOrLambda::Lambda(lambda), ValueOrLambda::Lambda(field)) = (argument, field) else {
                            continue;
                        };
                        if let Some(Some(parameters)) = parameters.next() {
                            let (lambda, _) = self.lambda(lambda, parameters)?;
                            *field = Some(field_of(&lambda.body)?);
                        }
                    }
                }
                LambdaParametersProgress::Complete(parameters) => {
                    let mut parameters = parameters.into_iter();
                    let (mut exprs, mut texts) = (vec![], vec![]);
                    for argument in given {
                        match argument {
                            ValueOrLambda::Value(named) => {
                                exprs.push(named.expr);
                                texts.push(named.text);
                            }
                            ValueOrLambda::Lambda(lambda) => {
                                let parameters = parameters.next().unwrap_or_default();
                                let (lambda, text) = self.lambda(lambda, parameters)?;
                                exprs.push(Expr::Lambda(lambda));
                                texts.push(text);
                            }
                        }
                    }
                    let expr = Expr::HigherOrderFunction(HigherOrderFunction::new(function, exprs));
                    return Ok(Named::new(expr, names::call(&lower, &texts, false)));
                }
            }
        }
        Err(Error::internal(format!("the types of the lambdas of {name} are not known after {steps} steps")))
    }

    fn lambda(&self, lambda: &p::LambdaFunction, parameters: Vec<FieldRef>) -> Result<(Lambda, String)> {
        if lambda.arguments.len() > parameters.len() {
            return Err(Error::invalid(
                "INVALID_LAMBDA_FUNCTION_CALL.NUM_ARGS_MISMATCH",
                format!(
                    "a lambda with {} arguments is given where at most {} are taken",
                    lambda.arguments.len(),
                    parameters.len()
                ),
            ));
        }
        let names: Vec<String> = lambda.arguments.iter().map(|argument| argument.name_parts.join(".")).collect();
        let mut inner = self.clone();
        inner.lambdas.extend(names.iter().cloned().zip(parameters));
        let body = inner.one(required(lambda.function.as_deref(), "the body of a lambda")?)?;
        let variables = vec!["namedlambdavariable()"; names.len()].join(", ");
        let text = format!("lambdafunction({}, {variables})", body.text);
        Ok((Lambda::new(names, body.expr), text))
    }
}

fn definition_name(definition: &WindowFunctionDefinition) -> &str {
    match definition {
        WindowFunctionDefinition::AggregateUDF(function) => function.name(),
        WindowFunctionDefinition::WindowUDF(function) => function.name(),
    }
}

fn field_of<'f>(fields: &'f arrow::datatypes::Fields, name: &str) -> Result<&'f FieldRef> {
    let mut found = fields.iter().filter(|field| field.name().to_lowercase() == name.to_lowercase());
    match (found.next(), found.next()) {
        (Some(field), None) => Ok(field),
        (Some(_), Some(_)) => Err(Error::invalid(
            "AMBIGUOUS_REFERENCE_TO_FIELDS",
            format!("ambiguous reference to the field `{name}`: it appears several times in the struct"),
        )),
        (None, _) => {
            let known = fields.iter().map(|field| format!("`{}`", field.name())).collect::<Vec<_>>().join(", ");
            Err(Error::invalid("FIELD_NOT_FOUND", format!("no such struct field `{name}` in {known}")))
        }
    }
}

/// Matches whole names by a Java regular expression, as far as it is one here too; whatever their case.
fn regex_of(pattern: &str) -> Result<impl Fn(&str) -> bool + use<>> {
    let array = arrow::array::StringArray::from(vec![format!("(?is)^(?:{pattern})$")]);
    let check = move |text: &str| -> std::result::Result<bool, arrow::error::ArrowError> {
        let text = arrow::array::StringArray::from(vec![text]);
        let found =
            arrow::compute::kernels::comparison::regexp_is_match(&text, &array, None::<&arrow::array::StringArray>)?;
        Ok(found.value(0))
    };
    check("").map_err(|error| {
        Error::invalid("INVALID_PARAMETER_VALUE.PATTERN", format!("{pattern:?} is no regular expression: {error}"))
    })?;
    Ok(move |text: &str| check(text).unwrap_or(false))
}

/// A part of a message that must be there.
pub fn required<'m, T>(value: Option<&'m T>, what: &str) -> Result<&'m T> {
    value.ok_or_else(|| Error::invalid("CONNECT_INVALID_PLAN.FIELD_IS_NOT_SET", format!("{what} is not set")))
}

/// What this server does not do, by name.
pub fn unsupported(what: &str) -> Error {
    Error::invalid("UNSUPPORTED_FEATURE", format!("{what} is not supported"))
}

/// A function that is not there.
pub fn unresolved_routine(name: &str) -> Error {
    Error::invalid(
        "UNRESOLVED_ROUTINE",
        format!(
            "cannot resolve routine `{name}` on search path [`system`.`builtin`, `system`.`session`, `spark_catalog`.`default`]"
        ),
    )
}

/// As many arguments as a function does not take.
pub fn wrong_arguments(name: &str, given: usize) -> Error {
    Error::invalid("WRONG_NUM_ARGS.WITHOUT_SUGGESTION", format!("the `{name}` does not take {given} parameters"))
}

/// Names for the columns of a generator that are not as many as the columns.
pub fn aliases_mismatch(function: &str, columns: usize, names: usize) -> Error {
    Error::invalid(
        "UDTF_ALIAS_NUMBER_MISMATCH",
        format!("{function} has {columns} columns, and {names} aliases are given for them"),
    )
}
