//! [`Frame`]: a plan, and what its columns are called.
//!
//! Spark's DataFrames may have several columns of one name, tell a column of one side of a join from that of the other
//! by the DataFrame it was taken from (`df["id"]`, which arrives as a plan id), and may sort by what they no longer
//! select. DataFusion's plans know names alone. So every column of a plan made here has a name of its own, `id#3`, as
//! Spark's explain shows it, and a frame says beside the plan which columns are visible, in which order, under which
//! names, and which ones each plan id meant.
//!
//! A selection of plain columns is thus no plan node at all, and a computed column is a projection that also keeps the
//! columns below it, hidden; what nobody asks for, the optimizer prunes.

use super::types;
use crate::sql::error::from_datafusion;
use crate::sql::item_names;
use arrow::datatypes::{DataType, Field, FieldRef, Fields, IntervalUnit, Schema, SchemaRef, TimeUnit};
use datafusion::common::{Column, DFSchema};
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder};
use headwater_executor::functions::{ddl, interval_fields};
use headwater_proto::error::{Error, Result};
use headwater_proto::spark;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// At most this many columns are suggested for one that is not found.
const SUGGESTIONS_MAX: usize = 5;

/// Gives columns their unique names. One a planning: the same relation gets the same names again.
#[derive(Debug, Default)]
pub struct Ids(AtomicUsize);

impl Ids {
    /// A new one for a column that users call `name`.
    pub fn next(&self, name: &str) -> String {
        format!("{name}#{}", self.0.fetch_add(1, Ordering::Relaxed))
    }
}

/// A column of a plan, as users see it.
#[derive(Debug, Clone, PartialEq)]
pub struct Attribute {
    /// Its name in the plan, of which there is one.
    pub id: String,
    /// What users call it.
    pub name: String,
    /// Aliases and tables it can be qualified with, outermost name first.
    pub qualifier: Vec<String>,
    /// What `alias(…, metadata=…)` attached.
    pub metadata: HashMap<String, String>,
}

impl Attribute {
    /// As an expression over the plan.
    pub fn expr(&self) -> Expr {
        column(&self.id)
    }
}

/// A column by its unique name.
pub fn column(id: &str) -> Expr {
    Expr::Column(Column::new_unqualified(id))
}

/// What a plan id means: the columns of a DataFrame that this one was made of.
#[derive(Debug, Clone)]
struct Origin {
    plan_id: i64,
    /// DataFrames from there to here; 0: it is this one, or one of the two that are joined, and is meant before others.
    depth: usize,
    columns: Arc<Vec<Attribute>>,
}

/// A plan and its columns. See the module's text.
#[derive(Debug, Clone)]
pub struct Frame {
    plan: LogicalPlan,
    columns: Vec<Attribute>,
    /// Columns of the plan that can be filtered and sorted by, but are no output.
    hidden: Vec<Attribute>,
    /// Columns that a USING join took together: to be reached through their own DataFrame.
    joined: Vec<Attribute>,
    origins: Vec<Origin>,
    zone: Arc<str>,
}

/// A name that was found.
#[derive(Debug, Clone, PartialEq)]
pub struct Found {
    /// The column.
    pub attribute: Attribute,
    /// Fields inside it, outermost first.
    pub path: Vec<String>,
}

impl Frame {
    /// A frame of a plan whose every column is visible, under its own name and qualifier; `zone` is the session's.
    ///
    /// # Errors
    /// Those of DataFusion's builder.
    pub fn of_plan(plan: LogicalPlan, ids: &Ids, zone: &str) -> Result<Self> {
        let mut columns = Vec::with_capacity(plan.schema().fields().len());
        let exprs: Vec<Expr> = plan
            .schema()
            .iter()
            .map(|(qualifier, field)| {
                let name = item_names::shown(field.name());
                let id = ids.next(name);
                columns.push(Attribute {
                    id: id.clone(),
                    name: name.to_string(),
                    qualifier: vec![],
                    metadata: field.metadata().clone(),
                });
                Expr::Column(Column::from((qualifier, field))).alias(id)
            })
            .collect();
        // A projection of nothing would lose the number of rows for some of DataFusion's rules.
        let plan = if exprs.is_empty() { plan } else { project(plan, exprs)? };
        Ok(Self { plan, columns, hidden: vec![], joined: vec![], origins: vec![], zone: zone.into() })
    }

    /// A frame of a plan that has these columns (at least).
    pub fn new(plan: LogicalPlan, columns: Vec<Attribute>, zone: &str) -> Self {
        Self { plan, columns, hidden: vec![], joined: vec![], origins: vec![], zone: zone.into() }
    }

    /// The plan. Its columns have unique names; what they are called is [`Frame::schema`].
    pub fn plan(&self) -> &LogicalPlan {
        &self.plan
    }

    /// The visible columns.
    pub fn columns(&self) -> &[Attribute] {
        &self.columns
    }

    /// The session's time zone.
    pub fn zone(&self) -> &str {
        &self.zone
    }

    /// The plan's field of a column.
    pub fn field(&self, attribute: &Attribute) -> Result<FieldRef> {
        let column = Column::new_unqualified(&attribute.id);
        let index = self.plan.schema().index_of_column(&column).map_err(from_datafusion)?;
        Ok(Arc::clone(self.plan.schema().field(index)))
    }

    /// Which fields the intervals of a column name, as metadata of a column.
    pub fn interval_fields(&self, attribute: &Attribute) -> HashMap<String, String> {
        let own = self.field(attribute).ok().and_then(|field| field.metadata().get(interval_fields::KEY).cloned());
        let fields = own.or_else(|| attribute.metadata.get(interval_fields::KEY).cloned());
        fields.into_iter().map(|fields| (interval_fields::KEY.to_string(), fields)).collect()
    }

    /// The visible columns with the names that users see, of the types that clients know.
    pub fn schema(&self) -> SchemaRef {
        let fields: Vec<Field> = self
            .columns
            .iter()
            .map(|attribute| {
                let field = self.field(attribute).unwrap_or_else(|_| Arc::new(Field::new("", DataType::Null, true)));
                let data_type = client_type(field.data_type(), &self.zone);
                Field::new(&attribute.name, data_type, field.is_nullable()).with_metadata(attribute.metadata.clone())
            })
            .collect();
        Arc::new(Schema::new(fields))
    }

    /// [`Frame::schema`] as a message.
    pub fn data_type(&self) -> spark::DataType {
        types::schema_proto(&self.schema())
    }

    /// What `printSchema` prints.
    pub fn tree_string(&self, level: Option<i32>) -> String {
        types::tree_string(&self.schema(), level)
    }

    /// Whether a stream is read.
    pub fn is_streaming(&self) -> bool {
        crate::sql::streaming::is_streaming(&self.plan)
    }

    /// Whether nothing outside the plan itself is read.
    pub fn is_local(&self) -> bool {
        matches!(self.plan, LogicalPlan::Values(_) | LogicalPlan::EmptyRelation(_))
    }

    /// The same with a plan whose columns are exactly the visible ones, in their order.
    ///
    /// # Errors
    /// Those of DataFusion's builder.
    pub fn sealed(self, ids: &Ids) -> Result<Self> {
        let exact = self.plan.schema().fields().len() == self.columns.len()
            && self.plan.schema().fields().iter().zip(&self.columns).all(|(field, column)| *field.name() == column.id);
        if exact || self.columns.is_empty() && self.plan.schema().fields().is_empty() {
            return Ok(Self { hidden: vec![], joined: vec![], ..self });
        }
        let mut taken = HashSet::new();
        let mut columns = self.columns.clone();
        let exprs = columns
            .iter_mut()
            .map(|attribute| {
                let expr = attribute.expr();
                if taken.insert(attribute.id.clone()) {
                    return expr;
                }
                // The same column twice.
                attribute.id = ids.next(&attribute.name);
                expr.alias(&attribute.id)
            })
            .collect();
        Ok(Self { plan: project(self.plan.clone(), exprs)?, columns, hidden: vec![], joined: vec![], ..self })
    }

    /// The same with new unique names, so that it can stand beside itself in one plan.
    ///
    /// # Errors
    /// Those of DataFusion's builder.
    pub fn renewed(self, ids: &Ids) -> Result<Self> {
        let sealed = self.sealed(ids)?;
        let fresh: HashMap<String, String> =
            sealed.columns.iter().map(|attribute| (attribute.id.clone(), ids.next(&attribute.name))).collect();
        let exprs = sealed.columns.iter().map(|attribute| attribute.expr().alias(&fresh[&attribute.id])).collect();
        let renew = |attribute: &Attribute| {
            let id = fresh.get(&attribute.id).unwrap_or(&attribute.id).clone();
            Attribute { id, ..attribute.clone() }
        };
        let plan = if sealed.columns.is_empty() { sealed.plan } else { project(sealed.plan, exprs)? };
        let origins = sealed
            .origins
            .iter()
            .map(|origin| Origin { columns: Arc::new(origin.columns.iter().map(renew).collect()), ..origin.clone() })
            .collect();
        let columns = sealed.columns.iter().map(renew).collect();
        Ok(Self { plan, columns, origins, ..sealed })
    }

    /// Whether a column of this frame has the same unique name as one of another.
    pub fn overlaps(&self, other: &Self) -> bool {
        let own: HashSet<&String> = self.plan.schema().fields().iter().map(|field| field.name()).collect();
        other.plan.schema().fields().iter().any(|field| own.contains(field.name()))
    }

    /// The plan with the names that users see.
    ///
    /// # Errors
    /// `COLUMN_ALREADY_EXISTS` for two of one name, whatever their case.
    pub fn named(&self) -> Result<LogicalPlan> {
        let mut taken = HashSet::new();
        if let Some(twice) = self.columns.iter().find(|column| !taken.insert(column.name.to_lowercase())) {
            return Err(Error::invalid(
                "COLUMN_ALREADY_EXISTS",
                format!(
                    "the column `{}` already exists: choose another name or rename the existing column",
                    twice.name.to_lowercase()
                ),
            ));
        }
        self.with_names(self.columns.iter().map(|column| column.name.clone()).collect())
    }

    /// The plan with the names that users see, where of equal ones all but the first get a number: for SQL, in which
    /// they cannot be told apart.
    ///
    /// # Errors
    /// Those of DataFusion's builder.
    pub fn distinctly_named(&self) -> Result<LogicalPlan> {
        let mut taken = HashSet::new();
        let names = self.columns.iter().map(|column| {
            let mut name = column.name.clone();
            let mut number = 1;
            while !taken.insert(name.to_lowercase()) {
                name = format!("{}:{number}", column.name);
                number += 1;
            }
            name
        });
        let names = names.collect();
        self.with_names(names)
    }

    fn with_names(&self, names: Vec<String>) -> Result<LogicalPlan> {
        if self.columns.is_empty() {
            return Ok(self.plan.clone());
        }
        let exprs = self.columns.iter().zip(names).map(|(column, name)| column.expr().alias(name)).collect();
        project(self.plan.clone(), exprs)
    }

    /// The same columns over another plan, which has them all: a filter, a limit, a sort of this one's.
    #[must_use]
    pub fn over(&self, plan: LogicalPlan) -> Self {
        Self { plan, ..self.clone() }
    }

    /// Other columns over another plan. What plan ids meant is kept for columns that are still there; those of `self`
    /// that the new plan still has are hidden.
    #[must_use]
    pub fn with(&self, plan: LogicalPlan, columns: Vec<Attribute>) -> Self {
        let there: HashSet<&String> = plan.schema().fields().iter().map(|field| field.name()).collect();
        let shown: HashSet<&String> = columns.iter().map(|attribute| &attribute.id).collect();
        let hidden: Vec<Attribute> = self
            .columns
            .iter()
            .filter(|attribute| there.contains(&attribute.id) && !shown.contains(&attribute.id))
            .cloned()
            .collect();
        let joined = self.joined.iter().filter(|attribute| there.contains(&attribute.id)).cloned().collect();
        drop((there, shown));
        Self { plan, columns, hidden, joined, origins: self.origins.clone(), zone: Arc::clone(&self.zone) }
    }

    /// Other visible columns over the same plan.
    #[must_use]
    pub fn showing(&self, columns: Vec<Attribute>) -> Self {
        let mut frame = self.with(self.plan.clone(), columns);
        let shown: HashSet<String> = frame.columns.iter().map(|attribute| attribute.id.clone()).collect();
        let known: HashSet<String> = frame.hidden.iter().map(|attribute| attribute.id.clone()).collect();
        // What was hidden stays so: nothing was computed anew.
        let still = self.hidden.iter().filter(|a| !shown.contains(&a.id) && !known.contains(&a.id)).cloned();
        frame.hidden.extend(still);
        frame
    }

    /// The same without what was hidden: rows below are no rows of this one.
    #[must_use]
    pub fn showing_only(mut self) -> Self {
        self.hidden.clear();
        self.joined.clear();
        self
    }

    /// Two frames beside each other over a plan that has the columns of both.
    #[must_use]
    pub fn beside(&self, right: &Self, plan: LogicalPlan) -> Self {
        let mut columns = self.columns.clone();
        columns.extend(right.columns.iter().cloned());
        let origins = self.origins.iter().chain(&right.origins).cloned().collect();
        Self { plan, columns, hidden: vec![], joined: vec![], origins, zone: Arc::clone(&self.zone) }
    }

    /// Columns that a USING join took together.
    #[must_use]
    pub fn with_joined(mut self, joined: Vec<Attribute>) -> Self {
        self.joined = joined;
        self
    }

    /// Every column can be qualified with this name, and with none else.
    #[must_use]
    pub fn aliased(mut self, qualifier: &[String]) -> Self {
        for attribute in &mut self.columns {
            attribute.qualifier = qualifier.to_vec();
        }
        self.hidden.clear();
        self
    }

    /// This is what `plan_id` means from now on.
    #[must_use]
    pub fn known_as(mut self, plan_id: Option<i64>) -> Self {
        if let Some(plan_id) = plan_id {
            self.origins.iter_mut().for_each(|origin| origin.depth += 1);
            self.origins.push(Origin { plan_id, depth: 0, columns: Arc::new(self.columns.clone()) });
        }
        self
    }

    /// Finds a name of several parts. `hidden`: what is not selected any more may be meant (in a filter or a sort).
    ///
    /// # Errors
    /// `UNRESOLVED_COLUMN.…`, `AMBIGUOUS_REFERENCE`.
    pub fn find(&self, parts: &[String], hidden: bool) -> Result<Found> {
        if let Some(found) = lookup(&self.columns, parts)? {
            return Ok(found);
        }
        if hidden && let Some(found) = lookup(&self.hidden, parts)? {
            return Ok(found);
        }
        Err(self.unresolved(parts))
    }

    /// Finds a name of a DataFrame that this one was made of.
    ///
    /// # Errors
    /// `CANNOT_RESOLVE_DATAFRAME_COLUMN` when it is not part of this one, `AMBIGUOUS_COLUMN_REFERENCE` when it is so
    /// in several ways.
    pub fn find_of(&self, plan_id: i64, parts: &[String], hidden: bool) -> Result<Found> {
        let mut candidates: Vec<(usize, Found)> = vec![];
        let mut known = false;
        for origin in self.origins.iter().filter(|origin| origin.plan_id == plan_id) {
            known = true;
            let Some(found) = lookup(&origin.columns, parts)? else { continue };
            let id = &found.attribute.id;
            let has = |attributes: &[Attribute]| attributes.iter().any(|attribute| attribute.id == *id);
            if (has(&self.columns) || has(&self.joined) || hidden && has(&self.hidden))
                && !candidates.iter().any(|(_, other)| other.attribute.id == *id)
            {
                candidates.push((origin.depth, found));
            }
        }
        let name = parts.join(".");
        if candidates.len() > 1 && candidates.iter().filter(|(depth, _)| *depth == 0).count() == 1 {
            candidates.retain(|(depth, _)| *depth == 0);
        }
        match candidates.as_slice() {
            [] if known => {
                let exists = self
                    .origins
                    .iter()
                    .filter(|origin| origin.plan_id == plan_id)
                    .any(|origin| matches!(lookup(&origin.columns, parts), Ok(Some(_))));
                if !exists {
                    let own = self.origins.iter().find(|origin| origin.plan_id == plan_id);
                    return Err(unresolved(parts, own.map_or(&[], |origin| origin.columns.as_slice())));
                }
                Err(Error::invalid(
                    "CANNOT_RESOLVE_DATAFRAME_COLUMN",
                    format!(
                        "cannot resolve dataframe column \"{name}\": it is not among the columns of this DataFrame"
                    ),
                ))
            }
            // A relation that is older than its columns' ids: by name.
            [] => self.find(parts, hidden),
            [(_, found)] => Ok(found.clone()),
            [..] => Err(Error::invalid(
                "AMBIGUOUS_COLUMN_REFERENCE",
                format!(
                    "column \"{name}\" is ambiguous: several DataFrames joined together have it, and they are the same: \
                     give them names with DataFrame.alias and qualify the column, as in col(\"a.{name}\")"
                ),
            )),
        }
    }

    /// The columns that `target.*` means: all of a qualifier. `None` when there is no such qualifier.
    pub fn qualified(&self, target: &[String]) -> Option<Vec<Attribute>> {
        let found: Vec<Attribute> =
            self.columns.iter().filter(|attribute| ends_with(&attribute.qualifier, target)).cloned().collect();
        (!found.is_empty()).then_some(found)
    }

    /// The columns of a DataFrame that this one was made of, as far as they are visible.
    pub fn columns_of(&self, plan_id: i64) -> Vec<Attribute> {
        let mut origins: Vec<&Origin> = self.origins.iter().filter(|origin| origin.plan_id == plan_id).collect();
        origins.sort_by_key(|origin| origin.depth);
        let Some(origin) = origins.first() else { return self.columns.clone() };
        origin
            .columns
            .iter()
            .filter(|attribute| self.columns.iter().any(|column| column.id == attribute.id))
            .cloned()
            .collect()
    }

    /// Positions of visible columns of this name, whatever its case.
    pub fn positions(&self, name: &str) -> Vec<usize> {
        let name = name.to_lowercase();
        let same = |attribute: &Attribute| attribute.name.to_lowercase() == name;
        self.columns.iter().enumerate().filter(|(_, attribute)| same(attribute)).map(|(index, _)| index).collect()
    }

    /// The one visible column that is called exactly this, dots and all (in back-ticks or not).
    ///
    /// # Errors
    /// `UNRESOLVED_COLUMN.…`, `AMBIGUOUS_REFERENCE`.
    pub fn named_column(&self, name: &str) -> Result<Attribute> {
        let whole = std::slice::from_ref(&name);
        let whole: Vec<String> = whole.iter().map(|part| (*part).to_string()).collect();
        if let Some(found) = lookup(&self.columns, &whole)? {
            return Ok(found.attribute);
        }
        let found = self.find(&parse_name(name)?, false)?;
        match found.path.is_empty() {
            true => Ok(found.attribute),
            false => Err(self.unresolved(&whole)),
        }
    }

    fn unresolved(&self, parts: &[String]) -> Error {
        unresolved(parts, &self.columns)
    }

    /// The plan's schema.
    pub fn df_schema(&self) -> &DFSchema {
        self.plan.schema()
    }
}

/// A projection whose expressions are taken as they are.
///
/// # Errors
/// Those of DataFusion's builder.
pub fn project(plan: LogicalPlan, exprs: Vec<Expr>) -> Result<LogicalPlan> {
    LogicalPlanBuilder::from(plan).project(exprs).and_then(LogicalPlanBuilder::build).map_err(from_datafusion)
}

fn ends_with(qualifier: &[String], target: &[String]) -> bool {
    !target.is_empty()
        && target.len() <= qualifier.len()
        && qualifier[qualifier.len() - target.len()..]
            .iter()
            .zip(target)
            .all(|(one, two)| one.to_lowercase() == two.to_lowercase())
}

/// A name among columns: with its longest qualifier first, then without; what remains are fields inside the column.
fn lookup(columns: &[Attribute], parts: &[String]) -> Result<Option<Found>> {
    for at in (0..parts.len()).rev() {
        let name = parts[at].to_lowercase();
        let mut matching: Vec<&Attribute> = vec![];
        for attribute in columns {
            if attribute.name.to_lowercase() == name
                && (at == 0 || ends_with(&attribute.qualifier, &parts[..at]))
                && !matching.iter().any(|known| known.id == attribute.id)
            {
                matching.push(attribute);
            }
        }
        match matching.as_slice() {
            [] => {}
            [one] => return Ok(Some(Found { attribute: (*one).clone(), path: parts[at + 1..].to_vec() })),
            many => {
                let shown: Vec<String> = many
                    .iter()
                    .map(|attribute| {
                        let whole = attribute.qualifier.iter().chain([&attribute.name]);
                        whole.map(|part| format!("`{part}`")).collect::<Vec<_>>().join(".")
                    })
                    .collect();
                return Err(Error::invalid(
                    "AMBIGUOUS_REFERENCE",
                    format!("reference {} is ambiguous, could be: [{}]", quoted(parts), shown.join(", ")),
                ));
            }
        }
    }
    Ok(None)
}

fn quoted(parts: &[String]) -> String {
    parts.iter().map(|part| format!("`{part}`")).collect::<Vec<_>>().join(".")
}

fn unresolved(parts: &[String], columns: &[Attribute]) -> Error {
    let name = quoted(parts);
    if columns.is_empty() {
        return Error::invalid(
            "UNRESOLVED_COLUMN.WITHOUT_SUGGESTION",
            format!("a column, variable, or function parameter with name {name} cannot be resolved"),
        );
    }
    let wanted = parts.join(".").to_lowercase();
    let mut near: Vec<(usize, usize, &Attribute)> = columns
        .iter()
        .enumerate()
        .map(|(index, attribute)| {
            (
                datafusion::common::utils::datafusion_strsim::levenshtein(&wanted, &attribute.name.to_lowercase()),
                index,
                attribute,
            )
        })
        .collect();
    near.sort_by_key(|(distance, index, _)| (*distance, *index));
    let near: Vec<String> =
        near.into_iter().take(SUGGESTIONS_MAX).map(|(_, _, attribute)| format!("`{}`", attribute.name)).collect();
    Error::invalid(
        "UNRESOLVED_COLUMN.WITH_SUGGESTION",
        format!(
            "a column, variable, or function parameter with name {name} cannot be resolved. Did you mean one of the \
             following? [{}]",
            near.join(", ")
        ),
    )
}

/// Splits `` a.`b.c`.d `` into its parts.
///
/// # Errors
/// `INVALID_ATTRIBUTE_NAME_SYNTAX`.
pub fn parse_name(text: &str) -> Result<Vec<String>> {
    let bad = || Error::invalid("INVALID_ATTRIBUTE_NAME_SYNTAX", format!("syntax error in the attribute name: {text}"));
    let mut parts = vec![];
    let mut rest = text;
    loop {
        if let Some(after) = rest.strip_prefix('`') {
            let mut part = String::new();
            let mut tail = after;
            loop {
                let end = tail.find('`').ok_or_else(bad)?;
                part.push_str(&tail[..end]);
                tail = &tail[end + 1..];
                match tail.strip_prefix('`') {
                    Some(more) => {
                        part.push('`');
                        tail = more;
                    }
                    None => break,
                }
            }
            parts.push(part);
            rest = tail;
        } else {
            let end = rest.find('.').unwrap_or(rest.len());
            let part = &rest[..end];
            if part.contains('`') || part.is_empty() {
                return Err(bad());
            }
            parts.push(part.to_string());
            rest = &rest[end..];
        }
        match rest.strip_prefix('.') {
            Some(more) => rest = more,
            None if rest.is_empty() => return Ok(parts),
            None => return Err(bad()),
        }
    }
}

/// The type under which values travel to clients: no views, no dictionaries, microseconds, the session's zone.
pub fn client_type(data_type: &DataType, zone: &str) -> DataType {
    let field =
        |field: &FieldRef| Arc::new(field.as_ref().clone().with_data_type(client_type(field.data_type(), zone)));
    match data_type {
        DataType::Utf8View | DataType::LargeUtf8 => DataType::Utf8,
        DataType::BinaryView | DataType::LargeBinary | DataType::FixedSizeBinary(_) => DataType::Binary,
        DataType::Dictionary(_, value) => client_type(value, zone),
        DataType::RunEndEncoded(_, values) => client_type(values.data_type(), zone),
        DataType::UInt8 => DataType::Int16,
        DataType::UInt16 => DataType::Int32,
        DataType::UInt32 => DataType::Int64,
        DataType::UInt64 => DataType::Decimal128(20, 0),
        DataType::Float16 => DataType::Float32,
        DataType::Decimal32(p, s) | DataType::Decimal64(p, s) => DataType::Decimal128(*p, *s),
        DataType::Decimal256(p, s) => DataType::Decimal128((*p).min(38), *s),
        DataType::Date64 => DataType::Date32,
        DataType::Timestamp(_, Some(_)) => DataType::Timestamp(TimeUnit::Microsecond, Some(zone.into())),
        DataType::Timestamp(_, None) => DataType::Timestamp(TimeUnit::Microsecond, None),
        DataType::Time32(_) | DataType::Time64(_) => DataType::Time64(TimeUnit::Nanosecond),
        DataType::Interval(IntervalUnit::DayTime) | DataType::Duration(_) => DataType::Duration(TimeUnit::Microsecond),
        DataType::List(item)
        | DataType::LargeList(item)
        | DataType::ListView(item)
        | DataType::LargeListView(item)
        | DataType::FixedSizeList(item, _) => {
            let inner = field(item);
            DataType::List(Arc::new(Field::new("element", inner.data_type().clone(), inner.is_nullable())))
        }
        DataType::Struct(fields) => DataType::Struct(fields.iter().map(field).collect()),
        DataType::Map(entries, sorted) => match entries.data_type() {
            DataType::Struct(parts) if parts.len() == 2 => {
                let parts = Fields::from(vec![
                    Field::new("key", client_type(parts[0].data_type(), zone), false),
                    Field::new("value", client_type(parts[1].data_type(), zone), parts[1].is_nullable()),
                ]);
                DataType::Map(Arc::new(Field::new("entries", DataType::Struct(parts), false)), *sorted)
            }
            _ => data_type.clone(),
        },
        other => other.clone(),
    }
}

/// How Spark names a type in messages.
pub fn type_text(data_type: &DataType) -> String {
    format!("\"{}\"", ddl::type_name(data_type))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attribute(id: &str, qualifier: &[&str]) -> Attribute {
        let name = id.split('#').next().unwrap_or(id).to_string();
        let qualifier = qualifier.iter().map(ToString::to_string).collect();
        Attribute { id: id.into(), name, qualifier, metadata: HashMap::new() }
    }

    fn check(name: &str, expect: std::result::Result<(&str, &[&str]), &str>) {
        let columns = [
            attribute("id#1", &["spark_catalog", "default", "t"]),
            attribute("id#2", &["u"]),
            attribute("a.b#3", &[]),
            attribute("s#4", &["t"]),
            attribute("Only#5", &["u"]),
        ];
        let parts = parse_name(name).expect(name);
        let found = lookup(&columns, &parts).and_then(|found| found.ok_or_else(|| unresolved(&parts, &columns)));
        match (found, expect) {
            (Ok(found), Ok((id, path))) => {
                assert_eq!(
                    (found.attribute.id.as_str(), found.path.as_slice()),
                    (id, &path.iter().map(ToString::to_string).collect::<Vec<_>>()[..])
                );
            }
            (Err(error), Err(class)) => assert_eq!(error.class, class, "{name}: {error}"),
            (found, _) => panic!("{name}: {found:?}"),
        }
    }

    #[test]
    fn names_are_found() {
        check("t.id", Ok(("id#1", &[])));
        check("default.T.ID", Ok(("id#1", &[])));
        check("u.id", Ok(("id#2", &[])));
        check("id", Err("AMBIGUOUS_REFERENCE"));
        check("only", Ok(("Only#5", &[])));
        check("`a.b`", Ok(("a.b#3", &[])));
        check("a.b", Err("UNRESOLVED_COLUMN.WITH_SUGGESTION"));
        check("s.x.y", Ok(("s#4", &["x", "y"])));
        check("t.s.x", Ok(("s#4", &["x"])));
    }

    #[test]
    fn names_are_parsed() {
        let parts = |text: &str| parse_name(text).map_err(|error| error.class);
        assert_eq!(parts("a.`b.c`.d"), Ok(vec!["a".into(), "b.c".into(), "d".into()]));
        assert_eq!(parts("`a``b`"), Ok(vec!["a`b".into()]));
        for bad in ["a.", ".a", "a..b", "`a", "a`b", "`a`b", ""] {
            assert_eq!(parts(bad), Err("INVALID_ATTRIBUTE_NAME_SYNTAX".into()), "{bad}");
        }
    }

    #[test]
    fn near_names_are_suggested_first() {
        let columns = [attribute("zzzzzz#1", &[]), attribute("name#2", &[])];
        let text = unresolved(&["nam".into()], &columns).message;
        assert!(text.ends_with("[`name`, `zzzzzz`]"), "{text}");
    }
}
