//! Which filters Cassandra takes over. The rules are those of Spark's connector:
//!
//! 1. Columns outside the partition key: `=`, `>`, `<`, `>=`, `<=`. 2. Primary key: also `IN`.
//! 3. Regular columns only with an `=` on an indexed column, and no `IN` on the primary key.
//! 4. Partition key: all columns or none, each by `=` or `IN`. 5. Clustering columns from the first on, each by `=` or
//!    `IN`, the last perhaps by a range. 6. Nothing with `OR` (but alternatives of one column, which are an `IN`) or
//!    `NOT IN`. 7. One predicate alone on a column where one is `=` or `IN`.
//!
//! Two rules are narrower: `IN` on a clustering column goes down only beside a whole partition key, because Cassandra
//! does not filter by it; `=` and `IN` on a `decimal` go down on clustering columns alone, because elsewhere Cassandra
//! looks for its bytes, which 1.5 and 1.50 have not in common. Every filter is checked again above the scan, so that a
//! filter taken over may let too many rows through but never too few.

use super::convert::writer;
use super::schema::TableSchema;
use arrow::datatypes::DataType;
use datafusion::common::ScalarValue;
use datafusion::logical_expr::expr::InList;
use datafusion::logical_expr::{BinaryExpr, Expr, Operator};
use scylla::cluster::metadata::{ColumnType, NativeType};

/// How a column is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Comparison {
    /// `=`.
    Equal,
    /// `IN`.
    In,
    /// `>`.
    Greater,
    /// `>=`.
    GreaterOrEqual,
    /// `<`.
    Less,
    /// `<=`.
    LessOrEqual,
}

impl Comparison {
    fn is_range(self) -> bool {
        !matches!(self, Self::Equal | Self::In)
    }
    /// CQL's sign; `IN` is spelled by the caller.
    pub fn sign(self) -> &'static str {
        match self {
            Self::Equal => "=",
            Self::In => "IN",
            Self::Greater => ">",
            Self::GreaterOrEqual => ">=",
            Self::Less => "<",
            Self::LessOrEqual => "<=",
        }
    }
}

/// A filter of the shape that Cassandra knows.
#[derive(Debug, Clone, PartialEq)]
pub struct Predicate {
    /// The column.
    pub column: String,
    /// How it is compared.
    pub comparison: Comparison,
    /// With what, as CQL bytes: several for `IN`, else one.
    pub values: Vec<Vec<u8>>,
}

/// What the rules look at.
#[derive(Debug, Clone, Copy)]
pub struct Shape<'a> {
    /// Columns that place a row.
    pub partition_key: &'a [String],
    /// Columns that order the rows of a partition.
    pub clustering: &'a [String],
    /// Columns with a secondary index.
    pub indexed: &'a [String],
}

/// Which of `predicates` go down, by position. Pure.
pub fn choose(shape: Shape<'_>, predicates: &[Predicate]) -> Vec<usize> {
    let on = |column: &str, wanted: fn(Comparison) -> bool| {
        predicates.iter().position(|predicate| predicate.column == column && wanted(predicate.comparison))
    };
    let equal = |column: &str| on(column, |comparison| comparison == Comparison::Equal);
    let equal_or_in = |column: &str| equal(column).or_else(|| on(column, |comparison| comparison == Comparison::In));
    let mut chosen = vec![];
    let partition: Option<Vec<usize>> = shape.partition_key.iter().map(|column| equal_or_in(column)).collect();
    let whole_partition = partition.is_some();
    chosen.extend(partition.into_iter().flatten());
    for column in shape.clustering {
        let point = if whole_partition { equal_or_in(column) } else { equal(column) };
        if let Some(point) = point {
            chosen.push(point);
            continue;
        }
        // One bound for each side: Cassandra refuses a second one.
        let sides: [fn(Comparison) -> bool; 2] = [
            |comparison| matches!(comparison, Comparison::Greater | Comparison::GreaterOrEqual),
            |comparison| matches!(comparison, Comparison::Less | Comparison::LessOrEqual),
        ];
        chosen.extend(sides.into_iter().filter_map(|side| on(column, side)));
        break;
    }
    let in_key = chosen.iter().any(|at| predicates[*at].comparison == Comparison::In);
    let is_key = |column: &String| shape.partition_key.contains(column) || shape.clustering.contains(column);
    let regular_index = shape.indexed.iter().any(|column| !is_key(column) && equal(column).is_some());
    if regular_index && !in_key {
        for (at, predicate) in predicates.iter().enumerate() {
            let alone = match equal(&predicate.column) {
                Some(first) => at == first,
                None => predicate.comparison.is_range(),
            };
            if !is_key(&predicate.column) && alone {
                chosen.push(at);
            }
        }
    }
    chosen.sort_unstable();
    chosen
}

/// The predicate that `filter` is, if it is one and its values can be written as the column's type.
pub fn predicate(filter: &Expr, table: &TableSchema) -> Option<Predicate> {
    let (column, comparison, values) = comparison(filter)?;
    let cql = &table.column(&column)?.cql;
    if comparison.is_range() && !ordered_alike(cql) {
        return None;
    }
    let decimal = matches!(cql, ColumnType::Native(NativeType::Decimal));
    if !comparison.is_range() && decimal && !table.clustering.contains(&column) {
        return None;
    }
    let values = values.iter().map(|value| bytes(value, cql)).collect::<Option<Vec<_>>>()?;
    Some(Predicate { column, comparison, values })
}

/// Whether Cassandra orders the type as its Arrow counterpart is ordered.
fn ordered_alike(cql: &ColumnType<'_>) -> bool {
    match cql {
        ColumnType::Native(native) => {
            !matches!(native, NativeType::Uuid | NativeType::Timeuuid | NativeType::Inet | NativeType::Duration)
        }
        _ => false,
    }
}

/// The value as the column's type; none where it has no exact counterpart.
fn bytes(value: &ScalarValue, cql: &ColumnType<'_>) -> Option<Vec<u8>> {
    if value.is_null() || !matches!(cql, ColumnType::Native(_)) {
        return None;
    }
    // Cassandra keeps milliseconds: `< 12.5` as `< 12` would lose 12.
    let sub_millisecond = match value {
        ScalarValue::TimestampMicrosecond(Some(micros), _) => micros % 1_000 != 0,
        ScalarValue::TimestampNanosecond(Some(nanos), _) => nanos % 1_000_000 != 0,
        _ => false,
    };
    // Text compares with text; what else is stored there was written by the caller's own conversion.
    let to_text = matches!(cql, ColumnType::Native(NativeType::Text | NativeType::Ascii));
    let from_text = matches!(value.data_type(), DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View);
    if sub_millisecond || (to_text && !from_text) {
        return None;
    }
    let array = value.to_array().ok()?;
    let mut out = vec![];
    writer(&array, cql).ok()?.write(0, &mut out).ok()?;
    Some(out)
}

/// Column, comparison and literals of a filter.
fn comparison(filter: &Expr) -> Option<(String, Comparison, Vec<ScalarValue>)> {
    match filter {
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::Or, right }) => {
            // The optimizer writes a short `IN` as alternatives.
            let (column, left_comparison, mut values) = comparison(left)?;
            let (other, right_comparison, more) = comparison(right)?;
            let points = |comparison| matches!(comparison, Comparison::Equal | Comparison::In);
            if column != other || !points(left_comparison) || !points(right_comparison) {
                return None;
            }
            values.extend(more);
            Some((column, Comparison::In, distinct(values)))
        }
        Expr::BinaryExpr(BinaryExpr { left, op, right }) => {
            let (column, op, value) = match (left.as_ref(), right.as_ref()) {
                (Expr::Column(column), Expr::Literal(value, _)) => (column, *op, value),
                (Expr::Literal(value, _), Expr::Column(column)) => (column, op.swap()?, value),
                _ => return None,
            };
            let comparison = match op {
                Operator::Eq => Comparison::Equal,
                Operator::Gt => Comparison::Greater,
                Operator::GtEq => Comparison::GreaterOrEqual,
                Operator::Lt => Comparison::Less,
                Operator::LtEq => Comparison::LessOrEqual,
                _ => return None,
            };
            Some((column.name.clone(), comparison, vec![value.clone()]))
        }
        Expr::InList(InList { expr, list, negated: false }) => {
            let Expr::Column(column) = expr.as_ref() else { return None };
            let literal = |item: &Expr| match item {
                Expr::Literal(value, _) => Some(value.clone()),
                _ => None,
            };
            let values = list.iter().map(literal).collect::<Option<Vec<_>>>()?;
            Some((column.name.clone(), Comparison::In, distinct(values)))
        }
        _ => None,
    }
}

fn distinct(values: Vec<ScalarValue>) -> Vec<ScalarValue> {
    let mut seen = std::collections::HashSet::new();
    values.into_iter().filter(|value| seen.insert(value.clone())).collect()
}

/// Every combination of the partition key's values, or none when there are more than `max`. Keys that no row can have
/// are left out: Cassandra refuses to look for them.
pub fn keys(partition: &[&Predicate], max: usize) -> Option<Vec<Vec<Vec<u8>>>> {
    let count = partition.iter().try_fold(1_usize, |count, predicate| count.checked_mul(predicate.values.len()))?;
    if count > max {
        return None;
    }
    let mut keys = vec![vec![]];
    for predicate in partition {
        keys = keys
            .into_iter()
            .flat_map(|key: Vec<Vec<u8>>| {
                // Two literals may be one value (an upper-case uuid); a key read twice would be a row read twice.
                let mut values = predicate.values.clone();
                values.sort_unstable();
                values.dedup();
                values.retain(|value| partition.len() > 1 || !value.is_empty());
                values.into_iter().map(move |value| key.iter().cloned().chain([value]).collect())
            })
            .collect();
    }
    Some(keys)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connectors::cassandra::options::TableName;
    use crate::connectors::cassandra::schema::TableColumn;
    use Comparison::{Equal, Greater, GreaterOrEqual, In, Less};
    use datafusion::prelude::{col, lit};

    /// Partition key p, q; clustering c, d; indexed x; regular y.
    fn check(predicates: &[(&str, Comparison)], expect: &[usize]) {
        let names = |names: &[&str]| names.iter().map(|name| name.to_string()).collect::<Vec<_>>();
        let (partition_key, clustering, indexed) = (names(&["p", "q"]), names(&["c", "d"]), names(&["x"]));
        let shape = Shape { partition_key: &partition_key, clustering: &clustering, indexed: &indexed };
        let build = |chosen: &[(&str, Comparison)]| -> Vec<Predicate> {
            let predicate = |(column, comparison): &(&str, Comparison)| Predicate {
                column: column.to_string(),
                comparison: *comparison,
                values: vec![],
            };
            chosen.iter().map(predicate).collect()
        };
        let chosen = choose(shape, &build(predicates));
        assert_eq!(chosen, expect, "{predicates:?}");
        // What was chosen stands on its own.
        let again: Vec<_> = chosen.iter().map(|at| predicates[*at]).collect();
        assert_eq!(choose(shape, &build(&again)).len(), again.len(), "{predicates:?}");
    }

    #[test]
    fn rules_of_the_connector() {
        check(&[], &[]);
        // Partition key: all or none, by = or IN.
        check(&[("p", Equal)], &[]);
        check(&[("p", Equal), ("q", Equal)], &[0, 1]);
        check(&[("p", In), ("q", Equal)], &[0, 1]);
        check(&[("p", Equal), ("q", Greater)], &[]);
        // Clustering: from the first, the last by a range, the tail skipped.
        check(&[("c", Equal)], &[0]);
        check(&[("d", Equal)], &[]);
        check(&[("c", Equal), ("d", Greater), ("d", Less)], &[0, 1, 2]);
        check(&[("c", Greater), ("d", Equal)], &[0]);
        check(&[("c", Greater), ("c", GreaterOrEqual)], &[0]);
        check(&[("c", In)], &[]);
        check(&[("p", Equal), ("q", Equal), ("c", In), ("d", Less)], &[0, 1, 2, 3]);
        // One predicate alone where one is = or IN.
        check(&[("c", Greater), ("c", Equal)], &[1]);
        check(&[("p", Equal), ("p", Equal), ("q", Equal)], &[0, 2]);
        // Regular columns only with an index and without IN.
        check(&[("y", Equal)], &[]);
        check(&[("x", Equal), ("y", Greater)], &[0, 1]);
        check(&[("x", Greater)], &[]);
        check(&[("x", Equal), ("x", Greater), ("y", In)], &[0]);
        check(&[("p", In), ("q", Equal), ("x", Equal)], &[0, 1]);
        check(&[("p", Equal), ("q", Equal), ("x", Equal)], &[0, 1, 2]);
    }

    #[test]
    fn filters_become_predicates() {
        let column = |name: &str, native| TableColumn { name: name.into(), cql: ColumnType::Native(native) };
        let table = TableSchema {
            name: TableName { keyspace: "k".into(), table: "t".into() },
            columns: vec![
                column("id", NativeType::Uuid),
                column("n", NativeType::Int),
                column("at", NativeType::Timestamp),
                column("name", NativeType::Text),
                column("price", NativeType::Decimal),
                column("rank", NativeType::Decimal),
            ],
            partition_key: vec!["id".into()],
            clustering: vec!["rank".into()],
            view: false,
        };
        let check = |filter: Expr, expect: Option<(&str, Comparison, usize)>| {
            let predicate = predicate(&filter, &table);
            let found = predicate.as_ref().map(|p| (p.column.as_str(), p.comparison, p.values.len()));
            assert_eq!(found, expect, "{filter}");
        };
        let id = "00112233-4455-6677-8899-aabbccddeeff";
        check(col("id").eq(lit(id)), Some(("id", Equal, 1)));
        check(lit(5).lt(col("n")), Some(("n", Greater, 1)));
        check(col("n").in_list(vec![lit(1), lit(2), lit(1)], false), Some(("n", In, 2)));
        check(col("n").eq(lit(1)).or(col("n").eq(lit(2))), Some(("n", In, 2)));
        check(col("n").in_list(vec![lit(1)], true), None);
        check(col("n").eq(lit(1)).or(col("name").eq(lit("a"))), None);
        check(col("n").not_eq(lit(1)), None);
        check(col("id").eq(lit("no uuid")), None);
        check(col("id").gt(lit(id)), None);
        check(col("other").eq(lit(1)), None);
        check(col("name").gt(lit("a")), Some(("name", Greater, 1)));
        check(col("name").eq(lit(5)), None);
        check(col("n").eq(lit(ScalarValue::Int32(None))), None);
        let time = |micros| lit(ScalarValue::TimestampMicrosecond(Some(micros), None));
        check(col("at").lt(time(12_000)), Some(("at", Less, 1)));
        check(col("at").lt(time(12_500)), None);
        // Equal decimals of another scale have other bytes.
        let decimal = || lit(ScalarValue::Decimal128(Some(150), 38, 2));
        check(col("price").eq(decimal()), None);
        check(col("price").in_list(vec![decimal()], false), None);
        check(col("price").gt(decimal()), Some(("price", Greater, 1)));
        check(col("rank").eq(decimal()), Some(("rank", Equal, 1)));
    }

    #[test]
    fn keys_are_all_combinations_once() {
        let with = |values: &[&[u8]]| Predicate {
            column: String::new(),
            comparison: In,
            values: values.iter().map(|value| value.to_vec()).collect(),
        };
        let (p, q) = (with(&[b"a", b"b", b"a"]), with(&[b"x"]));
        let expect: Vec<Vec<Vec<u8>>> = [b"a", b"b"].map(|p| vec![p.to_vec(), b"x".to_vec()]).to_vec();
        assert_eq!(keys(&[&p, &q], 3), Some(expect));
        assert_eq!(keys(&[&p, &q], 2), None);
        // A key of one column is never empty; one of several may have an empty one.
        let empty = with(&[b""]);
        assert_eq!(keys(&[&empty], 1), Some(vec![]));
        assert_eq!(keys(&[&with(&[b"", b"a"])], 2), Some(vec![vec![b"a".to_vec()]]));
        assert_eq!(keys(&[&empty, &q], 1), Some(vec![vec![vec![], b"x".to_vec()]]));
    }
}
