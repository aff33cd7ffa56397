//! Which tables a query names, read off its syntax tree before any of them is opened.

use super::parser::Name;
use datafusion::sql::sqlparser::ast::{
    Cte, Expr, FunctionArg, FunctionArgExpr, Ident, ObjectName, ObjectNamePart, Query, TableAlias, TableFactor,
    VisitMut, VisitorMut,
};
use headwater_proto::error::{Error, Result};
use std::ops::ControlFlow;

/// A table that a query reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reference {
    /// As written.
    pub name: Name,
    /// Inside `STREAM(…)`.
    pub stream: bool,
    /// The name that stands in the tree now, and that its provider is to be registered under.
    pub registered: String,
}

/// Replaces every name of a table in the tree by one to register a provider under, and returns them. A table named
/// twice is one reference; every `STREAM(…)` is one of its own. Names of common table expressions stay.
///
/// # Errors
/// `STREAM(…)` of anything but a table's name.
pub fn take(query: &mut Query) -> Result<Vec<Reference>> {
    let mut visitor = Take { scopes: Scopes::default(), references: vec![] };
    match query.visit(&mut visitor) {
        ControlFlow::Break(error) => Err(error),
        ControlFlow::Continue(()) => Ok(visitor.references),
    }
}

/// Common table expressions that are visible where a visitor is.
#[derive(Debug, Default)]
pub struct Scopes(Vec<Scope>);

#[derive(Debug)]
struct Scope {
    /// Address of a common table expression's query, by which it is recognised when it has been visited.
    pending: Vec<(usize, Cte)>,
    recursive: bool,
    visible: Vec<Cte>,
}

impl Scopes {
    /// To be called before the children of a query are visited.
    pub fn enter(&mut self, query: &Query) {
        let (recursive, ctes) = match &query.with {
            Some(with) => (with.recursive, with.cte_tables.as_slice()),
            None => (false, &[] as &[Cte]),
        };
        let pending = ctes.iter().map(|cte| (address(&cte.query), cte.clone())).collect();
        self.0.push(Scope { pending, recursive, visible: vec![] });
    }

    /// To be called after the children of a query were visited.
    pub fn leave(&mut self, query: &Query) {
        self.0.pop();
        let Some(outer) = self.0.last_mut() else { return };
        if let Some((_, cte)) = outer.pending.iter().find(|(known, _)| *known == address(query)) {
            let mut cte = cte.clone();
            cte.query = Box::new(query.clone());
            outer.visible.push(cte);
        }
    }

    /// The name of a common table expression as it was declared.
    fn declared(&self, name: &str) -> Option<&Ident> {
        self.0.iter().rev().find_map(|scope| {
            let own = scope.pending.iter().map(|(_, cte)| cte).filter(|_| scope.recursive);
            scope.visible.iter().chain(own).map(|cte| &cte.alias.name).find(|known| {
                // Spark ignores case here too.
                known.value.to_lowercase() == name.to_lowercase()
            })
        })
    }

    /// All that are visible, each name once, the innermost of a name.
    pub fn visible(&self) -> Vec<Cte> {
        let mut ctes: Vec<Cte> = vec![];
        for cte in self.0.iter().flat_map(|scope| &scope.visible) {
            ctes.retain(|known| known.alias.name.value != cte.alias.name.value);
            ctes.push(cte.clone());
        }
        ctes
    }
}

/// Trees do not move while they are visited.
fn address(query: &Query) -> usize {
    std::ptr::from_ref(query) as usize
}

struct Take {
    scopes: Scopes,
    references: Vec<Reference>,
}

impl VisitorMut for Take {
    type Break = Error;

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<Error> {
        self.scopes.enter(query);
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, query: &mut Query) -> ControlFlow<Error> {
        self.scopes.leave(query);
        ControlFlow::Continue(())
    }

    fn pre_visit_table_factor(&mut self, factor: &mut TableFactor) -> ControlFlow<Error> {
        let TableFactor::Table { name, alias, args, .. } = factor else { return ControlFlow::Continue(()) };
        let Some(mut parts) = parts(name) else { return ControlFlow::Continue(()) };
        let stream = args.is_some() && parts.len() == 1 && parts[0].eq_ignore_ascii_case("stream");
        if stream {
            let inner = args.as_ref().map(|args| args.args.as_slice());
            parts = match inner {
                Some([FunctionArg::Unnamed(FunctionArgExpr::Expr(Expr::Identifier(ident)))]) => {
                    vec![ident.value.clone()]
                }
                Some([FunctionArg::Unnamed(FunctionArgExpr::Expr(Expr::CompoundIdentifier(idents)))]) => {
                    idents.iter().map(|ident| ident.value.clone()).collect()
                }
                _ => {
                    return ControlFlow::Break(Error::invalid(
                        "PARSE_SYNTAX_ERROR",
                        "STREAM(…) takes the name of a table",
                    ));
                }
            };
            *args = None;
        } else if args.is_some() {
            return ControlFlow::Continue(());
        } else if let [single] = parts.as_slice()
            && let Some(declared) = self.scopes.declared(single)
        {
            *name = ObjectName::from(vec![declared.clone()]);
            return ControlFlow::Continue(());
        }
        let last = parts.last().cloned().unwrap_or_default();
        let written = Name(parts);
        let known = self.references.iter().find(|known| !stream && !known.stream && same(&known.name, &written));
        let registered = match known {
            Some(known) => known.registered.clone(),
            None => {
                let kind = if stream { "stream" } else { "table" };
                let registered = format!("{kind} {}: {}", self.references.len(), written.0.join("."));
                self.references.push(Reference { name: written, stream, registered: registered.clone() });
                registered
            }
        };
        *name = ObjectName::from(vec![Ident::with_quote('`', registered)]);
        alias.get_or_insert_with(|| TableAlias {
            explicit: true,
            name: Ident::with_quote('`', last),
            columns: vec![],
            at: None,
        });
        ControlFlow::Continue(())
    }
}

fn parts(name: &ObjectName) -> Option<Vec<String>> {
    name.0
        .iter()
        .map(|part| match part {
            ObjectNamePart::Identifier(ident) => Some(ident.value.clone()),
            ObjectNamePart::Function(_) => None,
        })
        .collect()
}

fn same(one: &Name, two: &Name) -> bool {
    one.0.len() == two.0.len() && one.0.iter().zip(&two.0).all(|(one, two)| one.to_lowercase() == two.to_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sql::parser::parse_query;

    fn check(text: &str, expect: &[(&str, bool)]) {
        let mut query = parse_query(text).expect(text);
        let references = take(&mut query).expect(text);
        let actual: Vec<_> =
            references.iter().map(|reference| (reference.name.0.join("."), reference.stream)).collect();
        let expect: Vec<_> = expect.iter().map(|(name, stream)| (name.to_string(), *stream)).collect();
        assert_eq!(actual, expect, "{text}");
        for reference in &references {
            assert!(query.to_string().contains(&format!("`{}`", reference.registered)), "{query}");
        }
    }

    #[test]
    fn tables_are_found() {
        check("SELECT 1", &[]);
        check("SELECT * FROM a, A b JOIN c.d ON a.x = d.x", &[("a", false), ("c.d", false)]);
        check(
            "SELECT * FROM a WHERE x IN (SELECT y FROM b) UNION ALL SELECT * FROM c",
            &[("a", false), ("b", false), ("c", false)],
        );
        check(
            "SELECT * FROM STREAM(t) JOIN STREAM t USING (k) JOIN t USING (k)",
            &[("t", true), ("t", true), ("t", false)],
        );
        check("SELECT * FROM parquet.`/a/b.parquet`", &[("parquet./a/b.parquet", false)]);
        check("SELECT * FROM range(10)", &[]);
    }

    #[test]
    fn common_table_expressions_are_no_tables() {
        check("WITH x AS (SELECT * FROM a), y AS (SELECT * FROM X) SELECT * FROM y, b", &[("a", false), ("b", false)]);
        // The inner one is the table: an expression does not see itself.
        check("WITH users AS (SELECT * FROM users) SELECT * FROM users", &[("users", false)]);
        check("WITH RECURSIVE r AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM r) SELECT * FROM r", &[]);
        check("SELECT * FROM (WITH x AS (SELECT 1) SELECT * FROM x) q, x", &[("x", false)]);
    }

    #[test]
    fn streams_are_tables() {
        let mut query = parse_query("SELECT * FROM STREAM(a + 1)").expect("parses");
        assert!(take(&mut query).expect_err("is no table").to_string().contains("takes the name of a table"));
    }
}
