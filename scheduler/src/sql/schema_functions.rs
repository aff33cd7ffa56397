//! Calls of `from_avro` and its kin in a query: their schemas are fetched before the query is planned, and written into
//! the syntax tree, so that every part of planning and every executor means the same one.

use arrow::datatypes::DataType;
use datafusion::sql::sqlparser::ast::{
    Expr, Function, FunctionArg, FunctionArgExpr, FunctionArguments, Query, Value, VisitMut, VisitorMut,
};
use headwater_executor::functions::bind::{Argument, FUNCTIONS, bind, defaults, pairs, result_type};
use headwater_proto::error::Result;
use std::collections::BTreeMap;
use std::ops::ControlFlow;

/// Binds every call in the query. `conf`: settings of the session, which hold defaults of registries.
///
/// # Errors
/// Wrong arguments; what a registry says, or that it says nothing.
pub async fn bind_calls(query: &mut Query, conf: &BTreeMap<String, String>) -> Result<()> {
    let mut found = Visitor { calls: vec![], bound: None };
    let _ = query.visit(&mut found);
    if found.calls.is_empty() {
        return Ok(());
    }
    let defaults = defaults(conf.iter().map(|(key, value)| (key.as_str(), value.as_str())));
    let mut bound = vec![];
    for (function, arguments) in &found.calls {
        bound.push(bind(function, arguments, &defaults).await?);
    }
    // Arguments that are replaced are literals: the calls are met in the same order again.
    bound.reverse();
    let _ = query.visit(&mut Visitor { calls: vec![], bound: Some(bound) });
    Ok(())
}

struct Visitor {
    /// Calls in order, with their arguments after the first.
    calls: Vec<(&'static str, Vec<Argument>)>,
    /// What to put in place of these arguments; the last is the next. None: only look.
    bound: Option<Vec<Option<Vec<Argument>>>>,
}

impl VisitorMut for Visitor {
    type Break = ();

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        let Expr::Function(Function { name, args: FunctionArguments::List(list), .. }) = expr else {
            return ControlFlow::Continue(());
        };
        let name = name.to_string();
        let Some(function) = FUNCTIONS.iter().find(|known| name.eq_ignore_ascii_case(known)) else {
            return ControlFlow::Continue(());
        };
        match &mut self.bound {
            None => self.calls.push((function, list.args.iter().skip(1).map(argument).collect())),
            Some(bound) => {
                if let Some(Some(arguments)) = bound.pop() {
                    list.args.truncate(1);
                    list.args.extend(arguments.into_iter().filter_map(literal));
                }
            }
        }
        ControlFlow::Continue(())
    }
}

/// The type of a call of one of these functions, where it is bound.
pub(super) fn declared(call: &Function) -> Option<DataType> {
    let FunctionArguments::List(list) = &call.args else { return None };
    let name = call.name.to_string().to_lowercase();
    let function = FUNCTIONS.iter().find(|known| **known == name)?;
    let arguments: Vec<Argument> = list.args.iter().skip(1).map(argument).collect();
    result_type(function, &arguments)
}

fn argument(argument: &FunctionArg) -> Argument {
    match argument {
        FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => constant(expr),
        _ => Argument::Unknown,
    }
}

fn constant(expr: &Expr) -> Argument {
    match expr {
        Expr::Nested(inner) => constant(inner),
        Expr::Value(value) => match &value.value {
            Value::SingleQuotedString(text)
            | Value::DoubleQuotedString(text)
            | Value::TripleSingleQuotedString(text)
            | Value::TripleDoubleQuotedString(text)
            | Value::SingleQuotedRawStringLiteral(text)
            | Value::DoubleQuotedRawStringLiteral(text) => Argument::Text(text.clone()),
            Value::HexStringLiteral(digits) => bytes(digits).map_or(Argument::Unknown, Argument::Bytes),
            Value::Null => Argument::Null,
            _ => Argument::Unknown,
        },
        Expr::Function(Function { name, args: FunctionArguments::List(list), .. })
            if name.to_string().eq_ignore_ascii_case("map") =>
        {
            let parts: Vec<_> = list.args.iter().map(argument).collect();
            pairs(&parts).unwrap_or(Argument::Unknown)
        }
        _ => Argument::Unknown,
    }
}

fn bytes(digits: &str) -> Option<Vec<u8>> {
    let pairs = digits.as_bytes().chunks(2);
    pairs.map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()).collect()
}

fn literal(argument: Argument) -> Option<FunctionArg> {
    let value = match argument {
        Argument::Text(text) => Value::SingleQuotedString(text),
        Argument::Bytes(bytes) => {
            Value::HexStringLiteral(bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>())
        }
        Argument::Pairs(_) | Argument::Null | Argument::Unknown => return None,
    };
    Some(FunctionArg::Unnamed(FunctionArgExpr::Expr(Expr::Value(value.into()))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sql::parser::parse_query;

    #[tokio::test]
    async fn calls_are_bound_in_place() {
        let mut query = parse_query(
            "SELECT from_avro(to_avro(a, '\"int\"'), '\"int\"', map('mode', 'PERMISSIVE')), upper('x') \
             FROM (SELECT FROM_AVRO(value, '\"string\"') AS a FROM t)",
        )
        .expect("a query");
        bind_calls(&mut query, &BTreeMap::new()).await.expect("needs no registry");
        assert_eq!(
            query.to_string(),
            "SELECT from_avro(to_avro(a, '\"int\"', '{}'), '\"int\"', '{\"mode\":\"PERMISSIVE\"}'), upper('x') \
             FROM (SELECT FROM_AVRO(value, '\"string\"', '{}') AS a FROM t)"
        );
        // Bound once, it stays.
        let once = query.to_string();
        bind_calls(&mut query, &BTreeMap::new()).await.expect("needs no registry");
        assert_eq!(query.to_string(), once);
    }

    #[tokio::test]
    async fn mistakes_are_told_before_planning() {
        for (text, expect) in [
            ("SELECT from_avro(value, 's', 'host:8081') FROM t", "is no URL"),
            ("SELECT from_protobuf(value, 'User', '/no/such/file') FROM t", "/no/such/file"),
            ("SELECT to_avro(value, 's', 'http://a', map('schema.registry.nope', '1')) FROM t", "schema.registry.nope"),
        ] {
            let error = bind_calls(&mut parse_query(text).expect(text), &BTreeMap::new()).await.expect_err(text);
            assert!(error.to_string().contains(expect), "{error}");
        }
    }
}
