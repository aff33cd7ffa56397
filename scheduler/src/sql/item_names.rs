//! Names of the items of a SELECT that nobody named, read off the syntax tree: [`names`](super::names) has the texts.

use super::names;
use super::types;
use datafusion::sql::sqlparser::ast::{
    AccessExpr, BinaryOperator, CaseWhen, CastKind, DuplicateTreatment, Expr, Function, FunctionArg, FunctionArgExpr,
    FunctionArguments, Ident, OrderByExpr, Query, Select, SelectItem, SetExpr, Subscript, TrimWhereField,
    UnaryOperator, Value, ValueWithSpan, WindowFrame, WindowFrameBound, WindowFrameUnits, WindowType,
};
use headwater_executor::functions::bind::FUNCTIONS;
use headwater_executor::functions::generators::KINDS;
use std::collections::BTreeSet;

/// Gives items without alias Spark's names, where DataFusion's would be others. `tables`: names of what stands in FROM,
/// in lower case.
pub fn name_items(select: &mut Select, tables: &BTreeSet<String>) {
    let texts = Texts { tables, lambdas: vec![] };
    for item in &mut select.projection {
        let SelectItem::UnnamedExpr(expr) = item else { continue };
        if !texts.is_plain(expr)
            && !is_generator(expr)
            && let Some(name) = texts.output(expr)
        {
            let expr = expr.clone();
            *item = SelectItem::ExprWithAlias { expr, alias: Ident::with_quote('`', name) };
        }
    }
}

/// What an expression is called inside others.
pub fn of(expr: &Expr) -> Option<String> {
    Texts { tables: &BTreeSet::new(), lambdas: vec![] }.text(expr)
}

/// The SELECT whose items are the columns of a query.
pub fn outermost(query: &mut Query) -> Option<&mut Select> {
    fn of(body: &mut SetExpr) -> Option<&mut Select> {
        match body {
            SetExpr::Select(select) => Some(select.as_mut()),
            SetExpr::Query(query) => of(&mut query.body),
            SetExpr::SetOperation { left, .. } => of(left),
            _ => None,
        }
    }
    of(&mut query.body)
}

/// The names of items without alias as the query spells them, before names in it are spelled as tables do.
pub fn spelled(select: &Select, tables: &BTreeSet<String>) -> Vec<Option<String>> {
    let texts = Texts { tables, lambdas: vec![] };
    let of = |item: &SelectItem| match item {
        SelectItem::UnnamedExpr(expr) if !is_generator(expr) => texts.output(expr),
        _ => None,
    };
    select.projection.iter().map(of).collect()
}

/// Gives items the names that they were spelled with. Columns that are spelled as in their tables need none.
pub fn respell(select: &mut Select, spelled: &[Option<String>], tables: &BTreeSet<String>) {
    let texts = Texts { tables, lambdas: vec![] };
    for (item, spelled) in select.projection.iter_mut().zip(spelled) {
        let (SelectItem::UnnamedExpr(expr), Some(spelled)) = (&*item, spelled) else { continue };
        if !texts.is_plain(expr) || last_name(expr).as_ref() != Some(spelled) {
            let alias = Ident::with_quote('`', spelled.clone());
            *item = SelectItem::ExprWithAlias { expr: expr.clone(), alias };
        }
    }
}

/// Ends the name of a column that others have as well, which DataFusion's columns must not.
const AGAIN: char = '\u{1}';

/// Tells columns of a query apart that have the same name.
pub fn tell_apart(body: &mut SetExpr) {
    let select = match body {
        SetExpr::Select(select) => select,
        SetExpr::Query(query) => return tell_apart(&mut query.body),
        SetExpr::SetOperation { left, right, .. } => {
            tell_apart(left);
            return tell_apart(right);
        }
        _ => return,
    };
    let mut taken = BTreeSet::new();
    for (at, item) in select.projection.iter_mut().enumerate() {
        let (expr, name) = match item {
            SelectItem::ExprWithAlias { expr, alias } => (expr, alias.value.clone()),
            SelectItem::UnnamedExpr(expr) => match last_name(expr) {
                Some(name) => (expr, name),
                None => continue,
            },
            _ => continue,
        };
        if !taken.insert(name.clone()) {
            let alias = Ident::with_quote('`', format!("{name}{AGAIN}{at}"));
            *item = SelectItem::ExprWithAlias { expr: expr.clone(), alias };
        }
    }
}

/// The last part of a name, where an expression is one.
pub fn last_name(expr: &Expr) -> Option<String> {
    match expr {
        Expr::Identifier(ident) => Some(ident.value.clone()),
        Expr::CompoundIdentifier(idents) => idents.last().map(|ident| ident.value.clone()),
        _ => None,
    }
}

/// Whether a name was told apart.
pub fn is_again(name: &str) -> bool {
    name.contains(AGAIN)
}

/// The name of a column as it is shown.
pub fn shown(name: &str) -> &str {
    name.split(AGAIN).next().unwrap_or(name)
}

fn is_generator(expr: &Expr) -> bool {
    matches!(expr, Expr::Function(Function { name, .. }) if KINDS.contains(&name.to_string().to_lowercase().as_str()))
}

struct Texts<'a> {
    tables: &'a BTreeSet<String>,
    /// Variables of the lambdas around.
    lambdas: Vec<String>,
}

impl Texts<'_> {
    /// A column as it stands, whose name is DataFusion's too.
    fn is_plain(&self, expr: &Expr) -> bool {
        match expr {
            Expr::Identifier(_) => true,
            Expr::CompoundIdentifier(idents) => {
                idents.len() == 2 && self.tables.contains(&idents[0].value.to_lowercase())
            }
            _ => false,
        }
    }

    /// The name of a column: the last part of a name, through casts.
    fn output(&self, expr: &Expr) -> Option<String> {
        match expr {
            Expr::CompoundIdentifier(idents) => Some(idents.last()?.value.clone()),
            Expr::Nested(inner) => self.output(inner),
            Expr::Cast { expr: inner, .. }
                if matches!(inner.as_ref(), Expr::Identifier(_) | Expr::CompoundIdentifier(_) | Expr::Cast { .. }) =>
            {
                self.output(inner)
            }
            other => self.text(other),
        }
    }

    fn texts(&self, exprs: &[Expr]) -> Option<Vec<String>> {
        exprs.iter().map(|expr| self.text(expr)).collect()
    }

    fn call(&self, name: &str, arguments: &[&Expr]) -> Option<String> {
        let arguments = arguments.iter().map(|argument| self.text(argument)).collect::<Option<Vec<_>>>()?;
        Some(names::call(name, &arguments, false))
    }

    fn negated(&self, negated: bool, text: String) -> Option<String> {
        Some(if negated { names::call("not", &[text], false) } else { text })
    }

    /// What an expression is called inside another.
    fn text(&self, expr: &Expr) -> Option<String> {
        Some(match expr {
            Expr::Identifier(ident) if self.is_variable(ident) => VARIABLE.into(),
            Expr::Identifier(ident) => ident.value.clone(),
            Expr::CompoundIdentifier(idents) => {
                let qualified = idents.len() > 1 && self.tables.contains(&idents[0].value.to_lowercase());
                let own = &idents[usize::from(qualified)..];
                own.iter().map(|ident| ident.value.as_str()).collect::<Vec<_>>().join(".")
            }
            Expr::CompoundFieldAccess { root, access_chain } => {
                let mut text = self.text(root)?;
                for access in access_chain {
                    match access {
                        AccessExpr::Dot(Expr::Identifier(ident)) => text = format!("{text}.{}", ident.value),
                        AccessExpr::Dot(Expr::Value(value)) => {
                            text = format!("{text}.{}", value.value.clone().into_string()?);
                        }
                        AccessExpr::Subscript(Subscript::Index { index }) => {
                            text = format!("{text}[{}]", self.text(index)?);
                        }
                        _ => return None,
                    }
                }
                text
            }
            Expr::Nested(inner) => self.text(inner)?,
            Expr::Cast { expr: inner, data_type, kind, .. } => {
                let is_try = *kind == CastKind::TryCast;
                names::cast(&self.text(inner)?, &types::shown(data_type), is_try)
            }
            Expr::Value(value) => literal(&value.value)?,
            Expr::TypedString(typed) => {
                format!("{} '{}'", typed.data_type.to_string().to_uppercase(), typed.value.value.clone().into_string()?)
            }
            Expr::Interval(interval) => match (&interval.leading_field, &interval.last_field) {
                (Some(field), last) => {
                    let value = match interval.value.as_ref() {
                        Expr::UnaryOp { op: UnaryOperator::Minus, expr } => format!("-{}", self.text(expr)?),
                        other => self.text(other)?,
                    };
                    let unit = |field: &dyn ToString| {
                        let name = field.to_string().to_uppercase();
                        name.strip_suffix('S').map_or(name.clone(), str::to_string)
                    };
                    let last = last.as_ref().map(|last| format!(" TO {}", unit(last))).unwrap_or_default();
                    format!("INTERVAL '{value}' {}{last}", unit(field))
                }
                _ => return None,
            },
            Expr::UnaryOp { op, expr } => match (op, expr.as_ref()) {
                (UnaryOperator::Minus, Expr::Value(value)) if matches!(value.value, Value::Number(..)) => {
                    format!("-{}", literal(&value.value)?)
                }
                (UnaryOperator::Minus, _) => self.call("-", &[expr])?,
                (UnaryOperator::Plus, _) => self.call("+", &[expr])?,
                (UnaryOperator::Not | UnaryOperator::BangNot, _) => self.call("not", &[expr])?,
                (UnaryOperator::BitwiseNot, _) => self.call("~", &[expr])?,
                _ => return None,
            },
            Expr::BinaryOp { left, op, right } => {
                let op = match op {
                    BinaryOperator::MyIntegerDivide => "div".to_string(),
                    BinaryOperator::Spaceship => "<=>".to_string(),
                    op => op.to_string(),
                };
                self.call(&op, &[left, right])?
            }
            Expr::IsNull(inner) | Expr::IsUnknown(inner) => self.call("isnull", &[inner])?,
            Expr::IsNotNull(inner) | Expr::IsNotUnknown(inner) => self.call("isnotnull", &[inner])?,
            Expr::IsTrue(inner) => format!("({} <=> true)", self.text(inner)?),
            Expr::IsFalse(inner) => format!("({} <=> false)", self.text(inner)?),
            Expr::IsNotTrue(inner) => format!("(NOT ({} <=> true))", self.text(inner)?),
            Expr::IsNotFalse(inner) => format!("(NOT ({} <=> false))", self.text(inner)?),
            Expr::IsNotDistinctFrom(left, right) => self.call("<=>", &[left, right])?,
            Expr::IsDistinctFrom(left, right) => format!("(NOT {})", self.call("<=>", &[left, right])?),
            Expr::InList { expr, list, negated } => {
                let mut all = vec![self.text(expr)?];
                all.extend(self.texts(list)?);
                self.negated(*negated, names::call("in", &all, false))?
            }
            Expr::InSubquery { expr, negated, .. } => {
                self.negated(*negated, format!("({} IN (listquery()))", self.text(expr)?))?
            }
            Expr::Subquery(_) => "scalarsubquery()".into(),
            Expr::Exists { negated, .. } => self.negated(*negated, "exists()".into())?,
            Expr::Between { expr, negated, low, high } => {
                self.negated(*negated, self.call("between", &[expr, low, high])?)?
            }
            Expr::Like { negated, any: false, expr, pattern, escape_char } => {
                self.negated(*negated, self.like("like", expr, pattern, escape_char.as_ref())?)?
            }
            Expr::ILike { negated, any: false, expr, pattern, escape_char } => {
                self.negated(*negated, self.like("ilike", expr, pattern, escape_char.as_ref())?)?
            }
            Expr::RLike { negated, expr, pattern, .. } => {
                self.negated(*negated, self.call("rlike", &[expr, pattern])?)?
            }
            Expr::Case { operand, conditions, else_result, .. } => {
                let operand = match operand {
                    Some(operand) => Some(self.text(operand)?),
                    None => None,
                };
                let mut all = vec![];
                for CaseWhen { condition, result } in conditions {
                    all.extend([self.text(condition)?, self.text(result)?]);
                }
                if let Some(default) = else_result {
                    all.push(self.text(default)?);
                }
                names::case(operand.as_deref(), &all)
            }
            Expr::Extract { field, expr, .. } => {
                format!("extract({} FROM {})", field.to_string().to_uppercase(), self.text(expr)?)
            }
            Expr::Ceil { expr, .. } => self.call("ceil", &[expr])?,
            Expr::Floor { expr, .. } => self.call("floor", &[expr])?,
            Expr::Position { expr, r#in } => self.call("locate", &[expr, r#in])?,
            Expr::Substring { expr, substring_from, substring_for, shorthand, .. } => {
                let rest = [substring_from, substring_for].into_iter().flatten().map(AsRef::as_ref);
                let all: Vec<&Expr> = std::iter::once(expr.as_ref()).chain(rest).collect();
                self.call(if *shorthand { "substr" } else { "substring" }, &all)?
            }
            Expr::Trim { expr, trim_where, trim_what, trim_characters: None } => {
                let name = match trim_where {
                    Some(TrimWhereField::Leading) => "ltrim",
                    Some(TrimWhereField::Trailing) => "rtrim",
                    _ => "trim",
                };
                match (trim_where, trim_what) {
                    (_, None) => self.call(name, &[expr])?,
                    (place, Some(what)) => {
                        let place = place.as_ref().map_or("BOTH".to_string(), ToString::to_string);
                        format!("TRIM({place} {} FROM {})", self.text(what)?, self.text(expr)?)
                    }
                }
            }
            Expr::Overlay { expr, overlay_what, overlay_from, overlay_for } => {
                let mut all = vec![self.text(expr)?, self.text(overlay_what)?, self.text(overlay_from)?];
                all.push(match overlay_for {
                    Some(length) => self.text(length)?,
                    None => "-1".into(),
                });
                names::call("overlay", &all, false)
            }
            Expr::Struct { values, .. } => names::call("struct", &self.texts(values)?, false),
            Expr::Tuple(values) => names::call("struct", &self.texts(values)?, false),
            Expr::Named { expr, name } => format!("{} AS {}", self.text(expr)?, name.value),
            Expr::Lambda(lambda) => {
                let mut inner = self.lambdas.clone();
                inner.extend(lambda.params.iter().map(|param| param.name.value.to_lowercase()));
                let variables = vec![VARIABLE; inner.len() - self.lambdas.len()].join(", ");
                let inner = Texts { tables: self.tables, lambdas: inner };
                format!("lambdafunction({}, {variables})", inner.text(&lambda.body)?)
            }
            Expr::Function(function) => self.function(function)?,
            _ => return None,
        })
    }

    fn like(&self, name: &str, expr: &Expr, pattern: &Expr, escape: Option<&ValueWithSpan>) -> Option<String> {
        let text = self.call(name, &[expr, pattern])?;
        Some(match escape {
            Some(escape) => format!("{text} ESCAPE '{}'", escape.value.clone().into_string()?),
            None => text,
        })
    }

    fn is_variable(&self, ident: &Ident) -> bool {
        self.lambdas.contains(&ident.value.to_lowercase())
    }

    fn function(&self, function: &Function) -> Option<String> {
        let name = function.name.0.last()?.as_ident()?.value.to_lowercase();
        let (mut arguments, mut distinct) = (vec![], false);
        if let FunctionArguments::List(list) = &function.args {
            distinct = list.duplicate_treatment == Some(DuplicateTreatment::Distinct);
            // A schema argument is no part of Spark's name.
            let shown = if FUNCTIONS.contains(&name.as_str()) { 1 } else { usize::MAX };
            for argument in list.args.iter().take(shown) {
                arguments.push(match argument {
                    FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => self.text(expr)?,
                    FunctionArg::Unnamed(FunctionArgExpr::Wildcard) => "1".into(),
                    _ => return None,
                });
            }
            if list.clauses.iter().any(|clause| !clause.to_string().ends_with("NULLS")) {
                return None;
            }
        }
        if !function.within_group.is_empty() {
            return None;
        }
        let mut text = names::call(&name, &arguments, distinct);
        if let Some(filter) = &function.filter {
            text = format!("{text} FILTER (WHERE {})", self.text(filter)?);
        }
        let Some(over) = &function.over else { return Some(text) };
        let WindowType::WindowSpec(spec) = over else { return None };
        if spec.window_name.is_some() {
            return None;
        }
        let order_by = spec.order_by.iter().map(|key| self.sort_key(key)).collect::<Option<Vec<_>>>()?;
        let frame = match &spec.window_frame {
            Some(frame) => self.frame(frame)?,
            None => names::default_frame(&name, arguments.get(1).map(String::as_str), !order_by.is_empty()),
        };
        Some(names::over(&text, &self.texts(&spec.partition_by)?, &order_by, &frame))
    }

    fn sort_key(&self, key: &OrderByExpr) -> Option<String> {
        let ascending = key.options.asc != Some(false);
        Some(names::sort_key(&self.text(&key.expr)?, ascending, key.options.nulls_first.unwrap_or(ascending)))
    }

    fn frame(&self, frame: &WindowFrame) -> Option<String> {
        let units = match frame.units {
            WindowFrameUnits::Rows => "ROWS",
            WindowFrameUnits::Range => "RANGE",
            WindowFrameUnits::Groups => return None,
        };
        let bound = |bound: &WindowFrameBound| {
            Some(match bound {
                WindowFrameBound::CurrentRow => "CURRENT ROW".to_string(),
                WindowFrameBound::Preceding(None) => "UNBOUNDED PRECEDING".into(),
                WindowFrameBound::Following(None) => "UNBOUNDED FOLLOWING".into(),
                WindowFrameBound::Preceding(Some(size)) => format!("{} PRECEDING", self.text(size)?),
                WindowFrameBound::Following(Some(size)) => format!("{} FOLLOWING", self.text(size)?),
            })
        };
        let end = match &frame.end_bound {
            Some(end) => bound(end)?,
            None => "CURRENT ROW".into(),
        };
        Some(format!("{units} BETWEEN {} AND {end}", bound(&frame.start_bound)?))
    }
}

const VARIABLE: &str = "namedlambdavariable()";

fn literal(value: &Value) -> Option<String> {
    Some(match value {
        Value::Number(text, _) => {
            let number = text.trim_end_matches(|letter: char| letter.is_ascii_alphabetic());
            number.to_string()
        }
        Value::SingleQuotedString(text) | Value::DoubleQuotedString(text) => text.clone(),
        Value::HexStringLiteral(text) => format!("X'{}'", text.to_uppercase()),
        Value::Boolean(value) => value.to_string(),
        Value::Null => "NULL".into(),
        _ => return None,
    })
}
