//! Batch reads, the driver half: what the columns are, which filters go down, and how the read is split.

use super::decode::{Wire, selected, selected_as};
use super::options::{Bounds, Relation, TableOptions, literal};
use super::pushdown::{Column, Condition, condition};
use super::scan::{Descriptor, ReaderConfig};
use super::schema::{TableInfo, not_found, table};
use super::session::{DRIVER_RETRIES, Database, Failed, Retries, database};
use crate::connectors::DescriptorScan;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use async_trait::async_trait;
use chrono::{DateTime, NaiveDate};
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown};
use headwater_proto::error::{Error, Result};
use std::sync::Arc;

/// A table or query that is read in parts.
#[derive(Debug)]
pub struct PostgresTable {
    options: TableOptions,
    columns: Vec<Column>,
    schema: SchemaRef,
    /// What the catalog knows of it, when it is a table.
    info: Option<TableInfo>,
    database: Arc<Database>,
}

impl PostgresTable {
    /// Asks the server what the columns are. `declared` columns must be there, and are then all there are, read as the
    /// types that were declared.
    pub async fn open(options: TableOptions, declared: Option<SchemaRef>) -> Result<Self> {
        let database = database(&options.connection);
        let what = format!("read the columns of {}", options.relation);
        let mut retries = Retries::new(DRIVER_RETRIES, &what);
        let (mut columns, info) = loop {
            match ask(&options, &database, &what).await {
                Ok(found) => break found,
                Err(failed) => retries.after(failed).await?,
            }
        };
        for (name, wanted) in &options.custom_schema {
            read_as(&mut columns, name, wanted, "option customSchema", &options.relation)?;
        }
        if let Some(declared) = declared.filter(|schema| !schema.fields().is_empty()) {
            let mut chosen = vec![];
            for field in declared.fields() {
                let at =
                    read_as(&mut columns, field.name(), field.data_type(), "the table's columns", &options.relation)?;
                chosen.push(columns[at].clone());
            }
            columns = chosen;
        }
        if let Some(repeated) = columns.iter().enumerate().find_map(|(at, column)| {
            columns[..at].iter().any(|other| other.name == column.name).then_some(&column.name)
        }) {
            return Err(Error::invalid(
                "COLUMN_ALREADY_EXISTS",
                format!("{} has two columns of the name {repeated}: rename one by AS", options.relation),
            ));
        }
        let fields: Vec<Field> =
            columns.iter().map(|column| Field::new(&column.name, column.wire.data_type(), true)).collect();
        Ok(Self { columns, schema: Arc::new(Schema::new(fields)), info, options, database })
    }

    fn condition(&self, filter: &Expr) -> Option<Condition> {
        if self.options.push_predicate { condition(filter, &self.columns) } else { None }
    }

    /// One condition for each part of the read.
    fn parts(&self) -> Result<Vec<Option<String>>> {
        let partitions = self.options.partitions.unwrap_or(1);
        if let Some(bounds) = &self.options.bounds {
            let found = |name: &str| self.columns.iter().find(|column| column.name == name);
            let known = || self.columns.iter().map(|column| column.name.as_str()).collect::<Vec<_>>().join(", ");
            let column = found(&bounds.column).ok_or_else(|| {
                Error::invalid(
                    "UNRESOLVED_COLUMN.WITH_SUGGESTION",
                    format!(
                        "option partitionColumn names {}, which {} does not have: it has {}",
                        bounds.column,
                        self.options.relation,
                        known()
                    ),
                )
            })?;
            return by_column(column, bounds, partitions);
        }
        let pages = self.info.as_ref().filter(|info| matches!(info.kind, 'r' | 'm')).map(|info| info.pages);
        Ok(match pages {
            Some(pages) => by_pages(pages, partitions),
            None => vec![None],
        })
    }
}

/// Asks the server for the columns, and the catalog for the table.
async fn ask(
    options: &TableOptions,
    database: &Arc<Database>,
    what: &str,
) -> Result<(Vec<Column>, Option<TableInfo>), Failed> {
    let mut conn = database.get().await?;
    let failed = |failure| Failed::new(failure, what, &database.label);
    let info = match &options.relation {
        Relation::Table(name) => match database.in_time(table(&mut conn, name)).await.map_err(failed)? {
            Some(info) => Some(info),
            None => return Err(not_found(name, &database.label, None).into()),
        },
        Relation::Query(_) => None,
    };
    let select = format!("SELECT * FROM {}", options.relation.sql());
    let statement = database.in_time(async { Ok(conn.prepare(&select).await?) }).await.map_err(failed)?;
    let columns = statement
        .columns()
        .iter()
        .map(|column| {
            let found = selected(column.type_(), column.type_modifier(), options.timestamp_ntz);
            Column {
                name: column.name().into(),
                of: column.type_().clone(),
                cast: found.cast.map(String::from),
                wire: found.wire,
            }
        })
        .collect();
    drop(statement);
    conn.keep();
    Ok((columns, info))
}

/// Sets how the column `name` is read; returns its place.
fn read_as(columns: &mut [Column], name: &str, wanted: &DataType, place: &str, relation: &Relation) -> Result<usize> {
    let same = |known: &Column| known.name.eq_ignore_ascii_case(name);
    let at = columns.iter().position(|known| known.name == name).or_else(|| columns.iter().position(same));
    let Some(at) = at else {
        let known: Vec<&str> = columns.iter().map(|known| known.name.as_str()).collect();
        return Err(Error::invalid(
            "UNRESOLVED_COLUMN.WITH_SUGGESTION",
            format!("{place}: column {name} not found in {relation}, which has {}", known.join(", ")),
        ));
    };
    let column = &mut columns[at];
    if !column.wire.data_type().equals_datatype(wanted) {
        let (cast, wire) = selected_as(wanted).map_err(|reason| {
            Error::invalid("POSTGRES_UNSUPPORTED_TYPE", format!("{place}: column {name} of {relation}: {reason}"))
        })?;
        column.cast = Some(cast);
        column.wire = wire;
    }
    Ok(at)
}

/// Conditions on ranges of a table's blocks, which the server reads without looking at the others.
fn by_pages(pages: i64, partitions: usize) -> Vec<Option<String>> {
    let count = (partitions as i64).min(pages).max(1);
    if count == 1 {
        return vec![None];
    }
    let cut = |at: i64| pages * at / count;
    (0..count)
        .map(|at| {
            let from = format!("ctid >= '({},0)'::tid", cut(at));
            // The last has no end: the table may have grown.
            Some(if at + 1 == count { from } else { format!("{from} AND ctid < '({},0)'::tid", cut(at + 1)) })
        })
        .collect()
}

/// Conditions on ranges of a column's values. As in Spark the bounds place the cuts, and keep no row out.
fn by_column(column: &Column, bounds: &Bounds, partitions: usize) -> Result<Vec<Option<String>>> {
    let invalid = |name: &str, value: &str, expected: &str| {
        Error::invalid("POSTGRES_INVALID_OPTION", format!("option {name} is '{value}': expected {expected}"))
    };
    let (parse, show): (fn(&str) -> Option<i128>, fn(i128) -> Option<String>) = match column.wire {
        Wire::Int2 | Wire::Int4 | Wire::Int8 | Wire::Oid | Wire::Float4 | Wire::Float8 | Wire::Numeric(..) => {
            (|text| text.parse::<i64>().ok().map(i128::from), |value| Some(value.to_string()))
        }
        Wire::Date => (
            |text| text.parse::<NaiveDate>().ok().map(|date| i128::from(date.to_epoch_days())),
            |value| {
                let instant = DateTime::from_timestamp(i64::try_from(value).ok()?.checked_mul(86_400)?, 0)?;
                Some(instant.format("%Y-%m-%d").to_string())
            },
        ),
        Wire::Timestamp(_) => (
            |text| {
                let micros = arrow::compute::kernels::cast_utils::string_to_timestamp_nanos(text).ok()? / 1_000;
                Some(i128::from(micros))
            },
            |value| {
                let instant = DateTime::from_timestamp_micros(i64::try_from(value).ok()?)?;
                Some(instant.format("%Y-%m-%d %H:%M:%S%.6f+00").to_string())
            },
        ),
        _ => return Err(invalid("partitionColumn", &bounds.column, "a column of numbers, dates or timestamps")),
    };
    let expected = "a value of the partition column: a whole number, a date or a timestamp";
    let lower = parse(&bounds.lower).ok_or_else(|| invalid("lowerBound", &bounds.lower, expected))?;
    let upper = parse(&bounds.upper).ok_or_else(|| invalid("upperBound", &bounds.upper, expected))?;
    if lower > upper {
        return Err(invalid("lowerBound", &bounds.lower, "no more than upperBound"));
    }
    let count = (partitions as i128).min(upper - lower).max(1);
    if count == 1 {
        return Ok(vec![None]);
    }
    let name = column.sql();
    let cut = |at: i128| show(lower + (upper - lower) * at / count).map(|value| literal(&value));
    (0..count)
        .map(|at| {
            let cuts = (cut(at), cut(at + 1));
            let (Some(from), Some(until)) = cuts else { return Err(invalid("upperBound", &bounds.upper, expected)) };
            Ok(Some(if at == 0 {
                format!("({name} < {until} OR {name} IS NULL)")
            } else if at + 1 == count {
                format!("{name} >= {from}")
            } else {
                format!("{name} >= {from} AND {name} < {until}")
            }))
        })
        .collect()
}

#[async_trait]
impl DescriptorScan for PostgresTable {
    fn format(&self) -> &'static str {
        super::FORMAT
    }
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }
    fn supports_filters(&self, filters: &[&Expr]) -> Vec<TableProviderFilterPushDown> {
        filters
            .iter()
            .map(|filter| match self.condition(filter) {
                Some(Condition { exact: true, .. }) => TableProviderFilterPushDown::Exact,
                Some(Condition { exact: false, .. }) => TableProviderFilterPushDown::Inexact,
                None => TableProviderFilterPushDown::Unsupported,
            })
            .collect()
    }
    async fn plan(
        &self,
        _projection: Option<&[usize]>,
        filters: &[Expr],
        limit: Option<usize>,
        _target_partitions: usize,
    ) -> Result<(String, Vec<String>)> {
        let conditions: Vec<Option<Condition>> = filters.iter().map(|filter| self.condition(filter)).collect();
        // A limit holds below only those filters that are not checked again.
        let all_exact = conditions.iter().all(|found| found.as_ref().is_some_and(|found| found.exact));
        let config = ReaderConfig {
            connection: self.options.connection.clone(),
            relation: self.options.relation.clone(),
            names: self.columns.iter().map(|column| column.name.clone()).collect(),
            selected: self.columns.iter().map(|column| (column.sql(), column.wire.clone())).collect(),
            conditions: conditions.into_iter().flatten().map(|found| found.sql).collect(),
            limit: limit.filter(|_| all_exact && self.options.push_limit),
            session_init: self.options.session_init.clone(),
            retries_max: self.options.retries_max,
        };
        tracing::debug!(database = %self.database.label, relation = %self.options.relation, "planned a postgres read");
        let json = |value: serde_json::Result<String>| value.map_err(Error::internal);
        let descriptors = self
            .parts()?
            .into_iter()
            .map(|part| json(serde_json::to_string(&Descriptor { part })))
            .collect::<Result<Vec<_>>>()?;
        Ok((json(serde_json::to_string(&config))?, descriptors))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio_postgres::types::Type;

    #[test]
    fn pages_are_shared_out() {
        let check = |pages: i64, partitions: usize, expect: &[Option<&str>]| {
            let found = by_pages(pages, partitions);
            assert_eq!(found.iter().map(Option::as_deref).collect::<Vec<_>>(), expect);
        };
        check(0, 4, &[None]);
        check(10, 1, &[None]);
        check(7, 2, &[Some("ctid >= '(0,0)'::tid AND ctid < '(3,0)'::tid"), Some("ctid >= '(3,0)'::tid")]);
        assert_eq!(by_pages(3, 8).len(), 3);
    }

    #[test]
    fn values_are_shared_out() {
        let check =
            |wire: Wire, of: Type, lower: &str, upper: &str, partitions: usize, expect: Result<&[&str], &str>| {
                let column = Column { name: "c".into(), of, cast: None, wire };
                let bounds = Bounds { column: "c".into(), lower: lower.into(), upper: upper.into() };
                match (by_column(&column, &bounds, partitions), expect) {
                    (Ok(found), Ok(expect)) => {
                        assert_eq!(
                            found.iter().map(|part| part.as_deref().unwrap_or("all")).collect::<Vec<_>>(),
                            expect
                        );
                    }
                    (Err(error), Err(expect)) => assert!(error.message.contains(expect), "{error}"),
                    (found, expect) => panic!("{found:?} in place of {expect:?}"),
                }
            };
        check(
            Wire::Int4,
            Type::INT4,
            "0",
            "90",
            3,
            Ok(&["(\"c\" < '30' OR \"c\" IS NULL)", "\"c\" >= '30' AND \"c\" < '60'", "\"c\" >= '60'"]),
        );
        check(Wire::Int4, Type::INT4, "5", "5", 3, Ok(&["all"]));
        check(Wire::Int4, Type::INT4, "6", "5", 3, Err("no more than upperBound"));
        check(Wire::Int4, Type::INT4, "a", "5", 3, Err("lowerBound"));
        check(
            Wire::Date,
            Type::DATE,
            "2020-01-01",
            "2020-01-03",
            2,
            Ok(&["(\"c\" < '2020-01-02' OR \"c\" IS NULL)", "\"c\" >= '2020-01-02'"]),
        );
        check(
            Wire::Timestamp(false),
            Type::TIMESTAMPTZ,
            "2020-01-01 00:00:00",
            "2020-01-01 00:00:02",
            2,
            Ok(&[
                "(\"c\" < '2020-01-01 00:00:01.000000+00' OR \"c\" IS NULL)",
                "\"c\" >= '2020-01-01 00:00:01.000000+00'",
            ]),
        );
        check(Wire::Text, Type::TEXT, "a", "b", 2, Err("numbers, dates or timestamps"));
    }
}
