//! What Spark understands in a query and DataFusion's planner does not, rewritten on the syntax tree: names that differ
//! in case, `column.*` of a struct, aliases used beside where they are made, and the names of columns that have none.

use super::grouping;
use super::item_names::name_items;
use super::joins::{self, Merged};
use super::pivot;
use super::references::Scopes;
use super::schema_functions;
use super::syntax::call;
use arrow::datatypes::{DataType, Fields, Schema};
use datafusion::common::DFSchemaRef;
use datafusion::sql::sqlparser::ast::{
    AccessExpr, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArguments, GroupByExpr, Ident, JoinConstraint,
    JoinOperator, LambdaFunction, ObjectName, ObjectNamePart, OneOrManyWithParens, OrderBy, OrderByKind, Query, Select,
    SelectItem, SelectItemQualifiedWildcardKind, SetExpr, TableAlias, TableFactor, TableWithJoins, Value, VisitMut,
    VisitorMut, WildcardAdditionalOptions, With, visit_expressions, visit_expressions_mut,
};
use headwater_proto::error::{Error, Result};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;

/// Spellings of names that a query can mean.
///
/// Spark ignores case and DataFusion does not. Names are not resolved here: one that nothing is spelled like, but that
/// exactly one spelling equals but for case, is taken for that spelling, wherever it stands. What a SELECT calls its own
/// items is not what it means by a name (`SELECT NAME AS NAME`), unless nothing else is called so; its ORDER BY means
/// them first.
#[derive(Debug, Default)]
pub struct Spellings(BTreeMap<String, Declarations>);

/// The spellings of a name, and how often each is declared.
type Declarations = BTreeMap<String, usize>;

/// Where a name stands.
#[derive(Debug)]
enum Place {
    /// In a SELECT that calls items so.
    Select(Spellings),
    /// Beside it, in ORDER BY.
    Query(Spellings),
}

impl Spellings {
    /// Columns of a table, and fields of its structs.
    pub fn add_schema(&mut self, schema: &Schema) {
        self.add_fields(schema.fields());
    }

    fn add_fields(&mut self, fields: &Fields) {
        for field in fields {
            self.add(field.name());
            self.add_type(field.data_type());
        }
    }

    fn add_type(&mut self, data_type: &DataType) {
        match data_type {
            DataType::Struct(fields) => self.add_fields(fields),
            DataType::List(item) | DataType::LargeList(item) | DataType::Map(item, _) => {
                self.add_type(item.data_type());
            }
            _ => {}
        }
    }

    fn add(&mut self, name: &str) {
        *self.0.entry(name.to_lowercase()).or_default().entry(name.to_string()).or_default() += 1;
    }

    /// The names that a SELECT gives its items.
    fn add_items(&mut self, select: &Select) {
        for item in &select.projection {
            match item {
                SelectItem::ExprWithAlias { alias, .. } => self.add(&alias.value),
                SelectItem::ExprWithAliases { aliases, .. } => aliases.iter().for_each(|alias| self.add(&alias.value)),
                _ => {}
            }
        }
    }

    fn of_items(select: &Select) -> Self {
        let mut items = Self::default();
        items.add_items(select);
        items
    }

    fn correct(&self, ident: &mut Ident, place: Option<&Place>, qualified: bool) {
        let name = ident.value.to_lowercase();
        let Some(all) = self.0.get(&name) else { return };
        let none = Declarations::new();
        let meant: Vec<&String> = match place {
            Some(Place::Query(items)) if !qualified && items.0.contains_key(&name) => items.0[&name].keys().collect(),
            Some(Place::Select(items) | Place::Query(items)) => {
                let own = items.0.get(&name).unwrap_or(&none);
                let others = all.iter().filter(|(spelling, times)| *times > own.get(*spelling).unwrap_or(&0));
                let others: Vec<&String> = others.map(|(spelling, _)| spelling).collect();
                if others.is_empty() { all.keys().collect() } else { others }
            }
            _ => all.keys().collect(),
        };
        if let [only] = meant.as_slice() {
            ident.value.clone_from(only);
        }
    }

    /// Spells names in the query as they were declared: by tables (added before), aliases and schemas of `from_json`,
    /// `from_avro` and `from_protobuf`.
    pub fn apply(mut self, query: &mut Query) {
        let _ = query.visit(&mut Declared(&mut self));
        let _ = query.visit(&mut Corrected { spellings: &self, variables: vec![], places: vec![] });
    }
}

/// Collects names that the query itself declares.
struct Declared<'a>(&'a mut Spellings);

impl Declared<'_> {
    fn alias(&mut self, alias: &TableAlias) {
        self.0.add(&alias.name.value);
        alias.columns.iter().for_each(|column| self.0.add(&column.name.value));
    }
}

impl VisitorMut for Declared<'_> {
    type Break = ();

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<()> {
        for cte in query.with.iter().flat_map(|with| &with.cte_tables) {
            self.alias(&cte.alias);
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_select(&mut self, select: &mut Select) -> ControlFlow<()> {
        self.0.add_items(select);
        ControlFlow::Continue(())
    }

    fn pre_visit_table_factor(&mut self, factor: &mut TableFactor) -> ControlFlow<()> {
        if let Some(alias) = alias_of(factor) {
            self.alias(&alias.clone());
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        if let Expr::Function(Function { name, args: FunctionArguments::List(list), .. }) = expr
            && name.to_string().eq_ignore_ascii_case("from_json")
            && let Some(FunctionArg::Unnamed(FunctionArgExpr::Expr(Expr::Value(value)))) = list.args.get(1)
            && let Value::SingleQuotedString(text) | Value::DoubleQuotedString(text) = &value.value
            // A wrong schema is reported when the function is planned.
            && let Ok(schema) = headwater_executor::functions::ddl::parse_ddl(text)
        {
            self.0.add_schema(&schema);
        }
        if let Expr::Function(call) = expr
            && let Some(data_type) = schema_functions::declared(call)
        {
            self.0.add_type(&data_type);
        }
        ControlFlow::Continue(())
    }
}

/// Puts declared spellings in place of others.
struct Corrected<'a> {
    spellings: &'a Spellings,
    /// Variables of the lambda functions that the visitor is in.
    variables: Vec<String>,
    /// The queries and SELECTs that the visitor is in.
    places: Vec<Place>,
}

impl Corrected<'_> {
    fn ident(&self, ident: &mut Ident) {
        self.spellings.correct(ident, self.places.last(), false);
    }

    /// One behind a dot: no item's name.
    fn qualified(&self, ident: &mut Ident) {
        self.spellings.correct(ident, self.places.last(), true);
    }

    fn name(&self, name: &mut ObjectName) {
        for part in &mut name.0 {
            if let ObjectNamePart::Identifier(ident) = part {
                self.ident(ident);
            }
        }
    }
}

impl VisitorMut for Corrected<'_> {
    type Break = ();

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<()> {
        let items = match query.body.as_ref() {
            SetExpr::Select(select) => Spellings::of_items(select),
            _ => Spellings::default(),
        };
        self.places.push(Place::Query(items));
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, _: &mut Query) -> ControlFlow<()> {
        self.places.pop();
        ControlFlow::Continue(())
    }

    fn post_visit_select(&mut self, _: &mut Select) -> ControlFlow<()> {
        self.places.pop();
        ControlFlow::Continue(())
    }

    fn pre_visit_select(&mut self, select: &mut Select) -> ControlFlow<()> {
        self.places.push(Place::Select(Spellings::of_items(select)));
        for item in &mut select.projection {
            if let SelectItem::QualifiedWildcard(SelectItemQualifiedWildcardKind::ObjectName(name), _) = item {
                self.name(name);
            }
            if let SelectItem::QualifiedWildcard(_, options) | SelectItem::Wildcard(options) = item
                && let Some(except) = &mut options.opt_except
            {
                self.ident(&mut except.first_element);
                except.additional_elements.iter_mut().for_each(|ident| self.ident(ident));
            }
        }
        for join in select.from.iter_mut().flat_map(|from| &mut from.joins) {
            if let Some(JoinConstraint::Using(columns)) = constraint_of(&mut join.join_operator) {
                columns.iter_mut().for_each(|column| self.name(column));
            }
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        match expr {
            Expr::Lambda(lambda) => {
                let params = match &mut lambda.params {
                    OneOrManyWithParens::One(one) => std::slice::from_mut(one),
                    OneOrManyWithParens::Many(many) => many.as_mut_slice(),
                };
                // DataFusion writes them so, but for quoted ones.
                params.iter_mut().for_each(|param| param.name.value = param.name.value.to_lowercase());
                self.variables.extend(variables_of(lambda));
            }
            // A variable is nearer than a column.
            Expr::Identifier(ident) if self.variables.contains(&ident.value.to_lowercase()) => {
                ident.value = ident.value.to_lowercase();
            }
            Expr::Identifier(ident) => self.ident(ident),
            Expr::CompoundIdentifier(idents) => {
                if let Some((first, rest)) = idents.split_first_mut() {
                    self.ident(first);
                    rest.iter_mut().for_each(|ident| self.qualified(ident));
                }
            }
            Expr::CompoundFieldAccess { access_chain, .. } => {
                for access in access_chain {
                    // DataFusion wants `f(x).a` as `f(x).'a'`.
                    if let AccessExpr::Dot(Expr::Identifier(ident)) = access {
                        self.ident(ident);
                        let name = Value::SingleQuotedString(std::mem::take(&mut ident.value));
                        *access = AccessExpr::Dot(Expr::Value(name.into()));
                    }
                }
            }
            _ => {}
        }
        ControlFlow::Continue(())
    }

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        if let Expr::Lambda(lambda) = expr {
            self.variables.truncate(self.variables.len().saturating_sub(variables_of(lambda).count()));
        }
        ControlFlow::Continue(())
    }
}

/// The parameters of a lambda function, in lower case.
fn variables_of(lambda: &LambdaFunction) -> impl Iterator<Item = String> {
    lambda.params.iter().map(|param| param.name.value.to_lowercase())
}

fn constraint_of(operator: &mut JoinOperator) -> Option<&mut JoinConstraint> {
    match operator {
        JoinOperator::Join(constraint)
        | JoinOperator::Inner(constraint)
        | JoinOperator::Left(constraint)
        | JoinOperator::LeftOuter(constraint)
        | JoinOperator::Right(constraint)
        | JoinOperator::RightOuter(constraint)
        | JoinOperator::FullOuter(constraint)
        | JoinOperator::Semi(constraint)
        | JoinOperator::LeftSemi(constraint)
        | JoinOperator::RightSemi(constraint)
        | JoinOperator::Anti(constraint)
        | JoinOperator::LeftAnti(constraint)
        | JoinOperator::RightAnti(constraint) => Some(constraint),
        _ => None,
    }
}

fn alias_of(factor: &TableFactor) -> Option<&TableAlias> {
    match factor {
        TableFactor::Table { alias, .. }
        | TableFactor::Derived { alias, .. }
        | TableFactor::TableFunction { alias, .. }
        | TableFactor::Function { alias, .. }
        | TableFactor::UNNEST { alias, .. }
        | TableFactor::Pivot { alias, .. }
        | TableFactor::Unpivot { alias, .. }
        | TableFactor::NestedJoin { alias, .. } => alias.as_ref(),
        _ => None,
    }
}

/// Makes the items of every `SELECT` ones that DataFusion plans as Spark would:
/// - `column.*` of a struct is its fields: `get_field(column, 'a') AS a, …`;
/// - an item may use the alias of one before it (`a + 1 AS b, b * 2 AS c`), where no column has this name;
/// - an item without alias has Spark's name: `data.id` is `id`, `CAST(value AS STRING)` is `value`.
///
/// `schema_of` plans a query and gives its columns; it is asked for what stands in `FROM`, where that matters.
///
/// # Errors
/// `CANNOT_RESOLVE_STAR_EXPAND` where the name is neither a table's nor a struct's; those of `schema_of`.
pub fn select_items(query: &mut Query, schema_of: &dyn Fn(Query) -> Result<DFSchemaRef>) -> Result<()> {
    match query.visit(&mut Expand { scopes: Scopes::default(), merged: vec![], grouping_keys: vec![], schema_of }) {
        ControlFlow::Break(error) => Err(error),
        ControlFlow::Continue(()) => Ok(()),
    }
}

struct Expand<'a> {
    scopes: Scopes,
    /// What names mean that the query is joined by, for each query that is being visited.
    merged: Vec<Merged>,
    /// What `grouping_id()` is of, likewise.
    grouping_keys: Vec<Vec<Expr>>,
    schema_of: &'a dyn Fn(Query) -> Result<DFSchemaRef>,
}

impl VisitorMut for Expand<'_> {
    type Break = Error;

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<Error> {
        self.scopes.enter(query);
        self.merged.push(Merged::new());
        self.grouping_keys.push(vec![]);
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, query: &mut Query) -> ControlFlow<Error> {
        joins::order_by(query, &self.merged.pop().unwrap_or_default());
        let sets = self.grouping_keys.pop().unwrap_or_default();
        order_by_items(query);
        if let SetExpr::Select(select) = query.body.as_ref()
            && let Some(OrderBy { kind: OrderByKind::Expressions(keys), .. }) = &mut query.order_by
        {
            for key in keys {
                grouping::identify(&mut key.expr, &sets);
                event_windows(&mut key.expr, &select.group_by, &select.from);
            }
        }
        // Common table expressions are seen as they are now.
        self.scopes.leave(query);
        ControlFlow::Continue(())
    }

    fn post_visit_select(&mut self, select: &mut Select) -> ControlFlow<Error> {
        let schema_of = |select: &Select, items: Vec<SelectItem>| {
            let mut query = self.query_of_from(select);
            if let SetExpr::Select(select) = query.body.as_mut() {
                select.projection = items;
            }
            (self.schema_of)(query)
        };
        let generators = pivot::expand(select, &schema_of).and_then(|()| super::generators::expand(select, &schema_of));
        let outcome = generators.and_then(|()| self.joins(select)).and_then(|()| self.stars(select)).and_then(|()| {
            let sets = grouping::expand(select);
            name_items(select, &tables_of(select));
            let items = select.projection.iter_mut().filter_map(|item| match item {
                SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. } => Some(expr),
                _ => None,
            });
            let filters = [&mut select.having, &mut select.qualify].into_iter().flatten();
            items.chain(filters).for_each(|expr| grouping::identify(expr, &sets));
            if let Some(own) = self.grouping_keys.last_mut() {
                *own = sets;
            }
            for item in &mut select.projection {
                let before = item.clone();
                if let SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. } = item {
                    event_windows(expr, &select.group_by, &select.from);
                }
                // A window by its own name keeps it.
                if let (SelectItem::UnnamedExpr(Expr::Identifier(name)), SelectItem::UnnamedExpr(expr)) =
                    (before, &*item)
                    && !matches!(expr, Expr::Identifier(_))
                {
                    *item = SelectItem::ExprWithAlias { expr: expr.clone(), alias: name };
                }
            }
            if let Some(having) = &mut select.having {
                event_windows(having, &select.group_by, &select.from);
            }
            self.lateral_aliases(select)
        });
        match outcome {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => ControlFlow::Break(error),
        }
    }
}

impl Expand<'_> {
    fn joins(&mut self, select: &mut Select) -> Result<()> {
        let merged = joins::expand(select, &|select, from| {
            let alone = Select { from, ..select.clone() };
            (self.schema_of)(self.query_of_from(&alone))
        })?;
        if let Some(own) = self.merged.last_mut() {
            *own = merged;
        }
        Ok(())
    }

    fn stars(&self, select: &mut Select) -> Result<()> {
        let tables = tables_of(select);
        let struct_path = |item: &SelectItem| match item {
            SelectItem::QualifiedWildcard(SelectItemQualifiedWildcardKind::ObjectName(name), _) => {
                let idents: Option<Vec<Ident>> = name.0.iter().map(|part| part.as_ident().cloned()).collect();
                idents.filter(|idents| idents.len() > 1 || !tables.contains(&idents[0].value.to_lowercase()))
            }
            _ => None,
        };
        if !select.projection.iter().any(|item| struct_path(item).is_some()) {
            return Ok(());
        }
        let schema = (self.schema_of)(self.query_of_from(select))?;
        let mut projection = Vec::with_capacity(select.projection.len());
        for item in std::mem::take(&mut select.projection) {
            match struct_path(&item) {
                Some(path) => projection.extend(fields_of(&path, &schema, &item)?),
                None => projection.push(item),
            }
        }
        select.projection = projection;
        Ok(())
    }

    fn lateral_aliases(&self, select: &mut Select) -> Result<()> {
        let mut made: BTreeMap<String, Expr> = BTreeMap::new();
        let mut used = BTreeSet::new();
        for item in &mut select.projection {
            if let SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. } = item {
                visit_names(expr, &mut |name, _| {
                    if made.contains_key(&name.value) {
                        used.insert(name.value.clone());
                    }
                });
            }
            if let SelectItem::ExprWithAlias { expr, alias } = item {
                made.insert(alias.value.clone(), expr.clone());
            }
        }
        if used.is_empty() {
            return Ok(());
        }
        // A column of this name is nearer.
        let schema = (self.schema_of)(self.query_of_from(select))?;
        used.retain(|name| !schema.iter().any(|(_, field)| field.name() == name));
        made.clear();
        for item in &mut select.projection {
            if let SelectItem::UnnamedExpr(Expr::Identifier(ident)) = item {
                let alias = ident.clone();
                *item = SelectItem::ExprWithAlias { expr: Expr::Identifier(alias.clone()), alias };
            }
            if let SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. } = item {
                visit_names(expr, &mut |name, expr| {
                    if let Some(meant) = made.get(&name.value) {
                        *expr = Expr::Nested(Box::new(meant.clone()));
                    }
                });
            }
            if let SelectItem::ExprWithAlias { expr, alias } = item
                && used.contains(&alias.value)
            {
                copyable(expr, alias)?;
                made.insert(alias.value.clone(), expr.clone());
            }
        }
        Ok(())
    }

    /// `WITH … SELECT * FROM …`: the same `FROM`, nothing else.
    fn query_of_from(&self, select: &Select) -> Query {
        let mut bare = select.clone();
        bare.projection = vec![SelectItem::Wildcard(WildcardAdditionalOptions::default())];
        bare.distinct = None;
        bare.selection = None;
        bare.group_by = GroupByExpr::Expressions(vec![], vec![]);
        bare.having = None;
        bare.qualify = None;
        bare.named_window = vec![];
        bare.cluster_by = vec![];
        bare.distribute_by = vec![];
        bare.sort_by = vec![];
        let cte_tables = self.scopes.visible();
        let with = (!cte_tables.is_empty()).then(|| With {
            with_token: datafusion::sql::sqlparser::ast::helpers::attached_token::AttachedToken::empty(),
            recursive: false,
            cte_tables,
        });
        Query {
            with,
            body: Box::new(SetExpr::Select(Box::new(bare))),
            order_by: None,
            limit_clause: None,
            fetch: None,
            locks: vec![],
            for_clause: None,
            settings: None,
            format_clause: None,
            pipe_operators: vec![],
        }
    }
}

/// Whether what an alias means can stand wherever it is used: as the same value, and not too long.
fn copyable(expr: &Expr, alias: &Ident) -> Result<()> {
    /// Aliases of aliases double it, each time that one is used twice.
    const NODES_MAX: usize = 10_000;
    // Without a seed, which is their last argument, each call has values of its own.
    const RANDOM: &[(&str, usize)] =
        &[("rand", 0), ("random", 0), ("randn", 0), ("uuid", 0), ("shuffle", 1), ("randstr", 1), ("uniform", 2)];
    let mut nodes = 0_usize;
    let found = visit_expressions(expr, |expr| {
        nodes += 1;
        let random = match expr {
            Expr::Function(Function { name, args, .. }) => {
                let given = match args {
                    FunctionArguments::List(list) => list.args.len(),
                    _ => 0,
                };
                let name = name.to_string().to_lowercase();
                RANDOM.iter().any(|(known, seed)| *known == name && given <= *seed)
            }
            _ => false,
        };
        if random || nodes > NODES_MAX { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    if found.is_continue() {
        return Ok(());
    }
    Err(Error::invalid(
        "UNSUPPORTED_FEATURE",
        format!("the alias {alias} is used in the SELECT list that makes it: compute it in a subquery"),
    ))
}

/// Calls back for every unqualified name in an expression that can be a column of its query: not for variables of lambda
/// functions, and not for names in subqueries, which may have tables of their own.
pub fn visit_names(expr: &mut Expr, found: &mut dyn FnMut(&Ident, &mut Expr)) {
    let _ = expr.visit(&mut Names { found, depth: 0, variables: vec![] });
}

struct Names<'a> {
    found: &'a mut dyn FnMut(&Ident, &mut Expr),
    /// Of queries inside the expression.
    depth: usize,
    /// Variables of the lambda functions that the visitor is in.
    variables: Vec<String>,
}

impl VisitorMut for Names<'_> {
    type Break = ();

    fn pre_visit_query(&mut self, _: &mut Query) -> ControlFlow<()> {
        self.depth += 1;
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, _: &mut Query) -> ControlFlow<()> {
        self.depth -= 1;
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        if let Expr::Lambda(lambda) = expr {
            self.variables.extend(variables_of(lambda));
        }
        ControlFlow::Continue(())
    }

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        match expr {
            Expr::Lambda(lambda) => {
                self.variables.truncate(self.variables.len().saturating_sub(variables_of(lambda).count()));
            }
            Expr::Identifier(ident) if self.depth == 0 && !self.variables.contains(&ident.value.to_lowercase()) => {
                let ident = ident.clone();
                (self.found)(&ident, expr);
            }
            _ => {}
        }
        ControlFlow::Continue(())
    }
}

/// `SELECT DISTINCT f(a) … ORDER BY f(a)` is ordered by the item: DataFusion would look for `a` among the items.
fn order_by_items(query: &mut Query) {
    let SetExpr::Select(select) = query.body.as_ref() else { return };
    let Some(OrderBy { kind: OrderByKind::Expressions(keys), .. }) = &mut query.order_by else { return };
    if select.distinct.is_none() {
        return;
    }
    for key in keys {
        let same = select.projection.iter().find_map(|item| match item {
            SelectItem::ExprWithAlias { expr, alias } if *expr == key.expr => Some(alias.clone()),
            _ => None,
        });
        if let Some(alias) = same {
            key.expr = Expr::Identifier(alias);
        }
    }
}

/// `window.start` is a field of the window that is grouped by.
fn event_windows(expr: &mut Expr, group_by: &GroupByExpr, from: &[TableWithJoins]) {
    let GroupByExpr::Expressions(keys, _) = group_by else { return };
    for key in keys {
        let Expr::Function(function) = key else { continue };
        let name = function.name.to_string().to_lowercase();
        let hidden = || from.iter().flat_map(table_names).any(|table| table == name);
        if !["window", "session_window"].contains(&name.as_str()) || hidden() {
            continue;
        }
        let _ = visit_expressions_mut(expr, |expr| {
            let idents = match expr {
                Expr::Identifier(ident) => std::slice::from_ref(ident),
                Expr::CompoundIdentifier(idents) => idents.as_slice(),
                _ => return ControlFlow::<()>::Continue(()),
            };
            if idents[0].value.eq_ignore_ascii_case(&name) {
                let fields = idents[1..].iter().map(|field| field.value.to_lowercase());
                *expr = fields.fold(key.clone(), |expr, field| get_field(expr, &field));
            }
            ControlFlow::Continue(())
        });
    }
}

/// The names of what stands in FROM, in lower case.
pub fn tables_of(select: &Select) -> BTreeSet<String> {
    select.from.iter().flat_map(table_names).collect()
}

fn table_names(from: &TableWithJoins) -> Vec<String> {
    let mut names = vec![];
    for factor in std::iter::once(&from.relation).chain(from.joins.iter().map(|join| &join.relation)) {
        match (alias_of(factor), factor) {
            (Some(alias), _) => names.push(alias.name.value.to_lowercase()),
            (None, TableFactor::Table { name, .. }) => {
                names.extend(name.0.last().and_then(ObjectNamePart::as_ident).map(|ident| ident.value.to_lowercase()));
            }
            (None, TableFactor::NestedJoin { table_with_joins, .. }) => names.extend(table_names(table_with_joins)),
            _ => {}
        }
    }
    names
}

/// Select items for the fields of the struct at `path`: `column`, `table.column`, then fields of fields.
fn fields_of(path: &[Ident], schema: &DFSchemaRef, item: &SelectItem) -> Result<Vec<SelectItem>> {
    let same = |one: &str, two: &str| one.to_lowercase() == two.to_lowercase();
    let qualified = schema.iter().find(|(qualifier, field)| {
        path.len() > 1
            && qualifier.is_some_and(|qualifier| same(qualifier.table(), &path[0].value))
            && same(field.name(), &path[1].value)
    });
    let found = qualified
        .map(|found| (found, 2))
        .or_else(|| schema.iter().find(|(_, field)| same(field.name(), &path[0].value)).map(|found| (found, 1)));
    let unresolved = || {
        let columns = schema.iter().map(|(_, field)| format!("`{}`", field.name())).collect::<Vec<_>>().join(", ");
        Error::invalid(
            "CANNOT_RESOLVE_STAR_EXPAND",
            format!("cannot resolve {item} given input columns [{columns}]: name a table or a struct column"),
        )
    };
    let Some(((qualifier, column), mut taken)) = found else { return Err(unresolved()) };
    let quoted = |name: &str| Ident::with_quote('`', name);
    let mut expr = match qualifier {
        Some(qualifier) => Expr::CompoundIdentifier(vec![quoted(qualifier.table()), quoted(column.name())]),
        None => Expr::Identifier(quoted(column.name())),
    };
    let mut data_type = column.data_type();
    while taken < path.len() {
        let DataType::Struct(fields) = data_type else { return Err(unresolved()) };
        let Some(field) = fields.iter().find(|field| same(field.name(), &path[taken].value)) else {
            return Err(unresolved());
        };
        expr = get_field(expr, field.name());
        data_type = field.data_type();
        taken += 1;
    }
    let DataType::Struct(fields) = data_type else { return Err(unresolved()) };
    let mut left_out = BTreeSet::new();
    if let SelectItem::QualifiedWildcard(_, options) = item {
        if let Some(except) = &options.opt_except {
            left_out.insert(except.first_element.value.to_lowercase());
            left_out.extend(except.additional_elements.iter().map(|ident| ident.value.to_lowercase()));
        }
        if options.opt_replace.is_some() || options.opt_rename.is_some() || options.opt_exclude.is_some() {
            return Err(Error::invalid("UNSUPPORTED_FEATURE", format!("{item}: of a struct only EXCEPT is supported")));
        }
    }
    Ok(fields
        .iter()
        .filter(|field| !left_out.contains(&field.name().to_lowercase()))
        .map(|field| SelectItem::ExprWithAlias {
            expr: get_field(expr.clone(), field.name()),
            alias: quoted(field.name()),
        })
        .collect())
}

fn get_field(expr: Expr, name: &str) -> Expr {
    call("get_field", vec![expr, Expr::Value(Value::SingleQuotedString(name.into()).into())])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sql::parser::parse_query;
    use arrow::datatypes::Field;
    use datafusion::common::DFSchema;
    use std::sync::Arc;

    fn nested() -> DataType {
        let inner = DataType::Struct(vec![Field::new("x", DataType::Int32, true)].into());
        DataType::Struct(vec![Field::new("a", DataType::Utf8, true), Field::new("In", inner, true)].into())
    }

    fn check(text: &str, expect: std::result::Result<&str, &str>) {
        let mut query = parse_query(text).expect(text);
        let schema = Schema::new(vec![Field::new("data", nested(), true), Field::new("n", DataType::Int32, true)]);
        let schema: DFSchemaRef = Arc::new(DFSchema::try_from_qualified_schema("t", &schema).expect("schema"));
        let outcome = select_items(&mut query, &|_| Ok(Arc::clone(&schema)));
        match expect {
            Ok(expect) => {
                outcome.expect(text);
                assert_eq!(query.to_string(), expect);
            }
            Err(expect) => {
                let message = outcome.expect_err(text).to_string();
                assert!(message.contains(expect), "{message}");
            }
        }
    }

    #[test]
    fn stars_of_structs_are_fields() {
        let all = "SELECT get_field(`t`.`data`, 'a') AS `a`, get_field(`t`.`data`, 'In') AS `In` FROM t";
        check("SELECT data.* FROM t", Ok(all));
        check("SELECT T.Data.* FROM t", Ok(all));
        check("SELECT t.* FROM t", Ok("SELECT t.* FROM t"));
        check("SELECT n, data.in.* FROM t", Ok("SELECT n, get_field(get_field(`t`.`data`, 'In'), 'x') AS `x` FROM t"));
        check("SELECT data.* EXCEPT (A) FROM t", Ok("SELECT get_field(`t`.`data`, 'In') AS `In` FROM t"));
        check(
            "SELECT data.a, t.n, CAST(t.n AS STRING), UPPER(data.a) FROM t",
            Ok("SELECT data.a AS `a`, t.n, CAST(t.n AS STRING) AS `n`, UPPER(data.a) AS `upper(data.a)` FROM t"),
        );
        check(
            "SELECT n + 1 AS b, b * 2 AS c, c FROM t",
            Ok("SELECT n + 1 AS b, (n + 1) * 2 AS c, ((n + 1) * 2) AS c FROM t"),
        );
        check(
            "SELECT 1 AS x, transform(array(1), x -> x + 1) AS y, (SELECT max(x) FROM u) AS z FROM t",
            Ok("SELECT 1 AS x, transform(array(1), x -> x + 1) AS y, (SELECT max(x) AS `max(x)` FROM u) AS z FROM t"),
        );
        check("SELECT rand() AS r, r AS s FROM t", Err("[UNSUPPORTED_FEATURE] the alias r is used"));
        check("SELECT rand(7) AS r, r AS s FROM t", Ok("SELECT rand(7) AS r, (rand(7)) AS s FROM t"));
        let doubled = (1..40).map(|at| format!("a{} + a{0} AS a{at}", at - 1)).collect::<Vec<_>>().join(", ");
        check(&format!("SELECT 1 AS a0, {doubled} FROM t"), Err("compute it in a subquery"));
        check("SELECT 1 AS n, n + 1 FROM t", Ok("SELECT 1 AS n, n + 1 AS `(n + 1)` FROM t"));
        check(
            "SELECT count(*), count(DISTINCT n), a IS NULL FROM t",
            Ok(
                "SELECT count(*) AS `count(1)`, count(DISTINCT n) AS `count(DISTINCT n)`, a IS NULL AS `(a IS NULL)` FROM t",
            ),
        );
        check("SELECT n.* FROM t", Err("[CANNOT_RESOLVE_STAR_EXPAND] cannot resolve n.* given input columns"));
        check("SELECT q.* FROM t", Err("`data`, `n`"));
        check("SELECT data.nope.* FROM t", Err("data.nope.*"));
    }

    #[test]
    fn spelling_follows_declarations() {
        let check = |text: &str, expect: &str| {
            let mut query = parse_query(text).expect(text);
            let mut spellings = Spellings::default();
            let schema = vec![Field::new("userId", DataType::Utf8, true), Field::new("data", nested(), true)];
            spellings.add_schema(&Schema::new(schema));
            spellings.apply(&mut query);
            assert_eq!(query.to_string(), expect);
        };
        check("SELECT USERID, DATA.IN.X FROM t", "SELECT userId, data.In.x FROM t");
        check("SELECT T.`userid` FROM u AS t", "SELECT t.`userId` FROM u AS t");
        check("SELECT a AS Sum FROM t ORDER BY SUM", "SELECT a AS Sum FROM t ORDER BY Sum");
        check(
            "SELECT transform(a, USERID -> UserId + N) AS N FROM t",
            "SELECT transform(a, userid -> userid + N) AS N FROM t",
        );
        check(
            "SELECT transform(a, X -> filter(x, y -> Y > X AND USERID)) FROM t",
            "SELECT transform(a, x -> filter(x, y -> y > x AND userId)) FROM t",
        );
        // What an item is called is not what it is.
        check("SELECT USERID AS userID FROM t", "SELECT userId AS userID FROM t");
        check("SELECT T.USERID AS USERID FROM u AS t", "SELECT t.userId AS USERID FROM u AS t");
        check(
            "SELECT USERID AS USERID FROM t WHERE USERID > 1 GROUP BY USERID ORDER BY UserID",
            "SELECT userId AS USERID FROM t WHERE userId > 1 GROUP BY userId ORDER BY USERID",
        );
        check(
            "SELECT userid AS USERID FROM u AS t ORDER BY T.userid",
            "SELECT userId AS USERID FROM u AS t ORDER BY t.userId",
        );
        check("SELECT a AS Sum, SUM + 1 AS b FROM t", "SELECT a AS Sum, Sum + 1 AS b FROM t");
        // Two spellings: nothing is guessed.
        check(
            "SELECT UserID FROM (SELECT 1 AS USERID FROM t) AS s",
            "SELECT UserID FROM (SELECT 1 AS USERID FROM t) AS s",
        );
        check("SELECT * FROM t JOIN u USING (USERID)", "SELECT * FROM t JOIN u USING(userId)");
    }
}
