//! Which filters the server takes over: what means the same there, to the last row.
//!
//! A filter is *exact* when the server keeps the very rows that we would, and is then not checked again; or it keeps
//! more (never fewer), and is. Text is compared by code points, as here, whatever the column's collation.

use super::decode::Wire;
use super::options::{literal, quoted};
use arrow::datatypes::{DataType, TimeUnit};
use chrono::DateTime;
use datafusion::common::ScalarValue;
use datafusion::logical_expr::expr::{InList, Like};
use datafusion::logical_expr::{Between, BinaryExpr, Expr, Operator};
use tokio_postgres::types::Type;

/// A column as the server has it.
#[derive(Debug, Clone, PartialEq)]
pub struct Column {
    /// Its name there and here.
    pub name: String,
    /// Its type there.
    pub of: Type,
    /// The type that it is cast to for reading.
    pub cast: Option<String>,
    /// How it comes.
    pub wire: Wire,
}

impl Column {
    /// What a query selects.
    pub fn sql(&self) -> String {
        match &self.cast {
            Some(cast) => format!("{}::{cast}", quoted(&self.name)),
            None => quoted(&self.name),
        }
    }
    fn is(&self, of: &Type) -> bool {
        self.of == *of
    }
    /// Read as what it is there, not as a type that the user wished for.
    fn as_it_is(&self) -> bool {
        self.cast.is_none()
    }
}

/// A condition for the server, and whether it keeps exactly the rows that the filter keeps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Condition {
    /// The condition.
    pub sql: String,
    /// Whether it need not be checked again.
    pub exact: bool,
}

fn exact(sql: String) -> Option<Condition> {
    Some(Condition { sql, exact: true })
}

/// The filter as a condition for the server, where it has one.
pub fn condition(filter: &Expr, columns: &[Column]) -> Option<Condition> {
    let column = |expr: &Expr| match expr {
        Expr::Column(column) => columns.iter().find(|known| known.name == column.name),
        _ => None,
    };
    match filter {
        Expr::BinaryExpr(BinaryExpr { left, op: op @ (Operator::And | Operator::Or), right }) => {
            match (condition(left, columns), condition(right, columns), op) {
                (Some(left), Some(right), op) => {
                    let word = if *op == Operator::And { "AND" } else { "OR" };
                    let sql = format!("({} {word} {})", left.sql, right.sql);
                    Some(Condition { sql, exact: left.exact && right.exact })
                }
                // One side alone lets more rows through.
                (Some(one), None, Operator::And) | (None, Some(one), Operator::And) => {
                    Some(Condition { exact: false, ..one })
                }
                _ => None,
            }
        }
        Expr::BinaryExpr(BinaryExpr { left, op, right }) => match (left.as_ref(), right.as_ref()) {
            (left, Expr::Literal(value, _)) => compared(column(left)?, *op, value),
            (Expr::Literal(value, _), right) => compared(column(right)?, op.swap()?, value),
            _ => None,
        },
        Expr::Between(Between { expr, negated: false, low, high }) => {
            let (Expr::Literal(low, _), Expr::Literal(high, _)) = (low.as_ref(), high.as_ref()) else { return None };
            let column = column(expr)?;
            let (low, high) = (compared(column, Operator::GtEq, low)?, compared(column, Operator::LtEq, high)?);
            Some(Condition { sql: format!("({} AND {})", low.sql, high.sql), exact: low.exact && high.exact })
        }
        Expr::InList(InList { expr, list, negated }) => {
            let column = column(expr)?;
            let op = if *negated { Operator::NotEq } else { Operator::Eq };
            let parts = list
                .iter()
                .map(|item| match item {
                    Expr::Literal(value, _) => compared(column, op, value),
                    _ => None,
                })
                .collect::<Option<Vec<_>>>()?;
            if parts.is_empty() {
                return None;
            }
            let exact = parts.iter().all(|part| part.exact);
            let word = if *negated { " AND " } else { " OR " };
            let sql: Vec<String> = parts.into_iter().map(|part| part.sql).collect();
            Some(Condition { sql: format!("({})", sql.join(word)), exact })
        }
        Expr::IsNull(expr) => exact(format!("{} IS NULL", quoted(&column(expr)?.name))),
        Expr::IsNotNull(expr) => exact(format!("{} IS NOT NULL", quoted(&column(expr)?.name))),
        Expr::Column(_) => column(filter).filter(|column| column.wire == Wire::Bool).and_then(|c| exact(c.sql())),
        Expr::Not(inner) => match inner.as_ref() {
            Expr::Column(_) => column(inner)
                .filter(|column| column.wire == Wire::Bool)
                .and_then(|column| exact(format!("NOT {}", column.sql()))),
            Expr::IsNull(expr) => exact(format!("{} IS NOT NULL", quoted(&column(expr)?.name))),
            Expr::IsNotNull(expr) => exact(format!("{} IS NULL", quoted(&column(expr)?.name))),
            _ => None,
        },
        // A prefix, the one pattern that an index may serve.
        Expr::Like(Like { negated: false, expr, pattern, case_insensitive: false, escape_char: None }) => {
            let (column, Expr::Literal(pattern, _)) = (column(expr)?, pattern.as_ref()) else { return None };
            let prefix = pattern.try_as_str()??.strip_suffix('%')?;
            let plain = !prefix.is_empty() && !prefix.contains(['%', '_', '\\']);
            (plain && is_plain_text(column))
                .then(|| format!("{} LIKE {}", quoted(&column.name), literal(&format!("{prefix}%"))))
                .and_then(exact)
        }
        _ => None,
    }
}

/// Text without padding, compared as it stands.
fn is_plain_text(column: &Column) -> bool {
    column.as_it_is() && (column.is(&Type::TEXT) || column.is(&Type::VARCHAR))
}

/// `-` and digits as SQL has them.
fn signed(number: impl std::fmt::Display) -> String {
    format!("'{number}'")
}

/// A column compared with a value.
fn compared(column: &Column, op: Operator, value: &ScalarValue) -> Option<Condition> {
    let sign = match op {
        Operator::Eq => "=",
        Operator::NotEq => "<>",
        Operator::Lt => "<",
        Operator::LtEq => "<=",
        Operator::Gt => ">",
        Operator::GtEq => ">=",
        _ => return None,
    };
    let is_equal = op == Operator::Eq;
    let ordered = !matches!(op, Operator::Eq | Operator::NotEq);
    if value.is_null() {
        return None;
    }
    let name = column.sql();
    match &column.wire {
        Wire::Bool => match value {
            ScalarValue::Boolean(Some(value)) if !ordered => exact(format!("{name} {sign} {value}")),
            _ => None,
        },
        Wire::Int2 | Wire::Int4 | Wire::Int8 | Wire::Oid => {
            let number = match value {
                ScalarValue::Int8(Some(number)) => i64::from(*number),
                ScalarValue::Int16(Some(number)) => i64::from(*number),
                ScalarValue::Int32(Some(number)) => i64::from(*number),
                ScalarValue::Int64(Some(number)) => *number,
                _ => return None,
            };
            // As wide as the widest: a literal of the column's own type could overflow.
            exact(format!("{name} {sign} {}::int8", signed(number)))
        }
        Wire::Float4 | Wire::Float8 => {
            let (number, of) = match value {
                ScalarValue::Float32(Some(number)) => (f64::from(*number), "float4"),
                ScalarValue::Float64(Some(number)) => (*number, "float8"),
                _ => return None,
            };
            // Zeros of two signs and what is not a number are compared differently.
            let same = number.is_finite() && number != 0.0 && (of == "float4") == (column.wire == Wire::Float4);
            same.then(|| format!("{name} {sign} '{number:e}'::{of}")).and_then(exact)
        }
        Wire::Numeric(precision, scale) => {
            let ScalarValue::Decimal128(Some(number), _, value_scale) = value else { return None };
            let shown = decimal_text(*number, *value_scale);
            // What the server keeps with more digits is rounded here: then it may let more through only.
            let as_kept = column.as_it_is() && (*precision, *scale) != (38, 18);
            as_kept.then(|| format!("{name} {sign} '{shown}'::numeric")).and_then(exact)
        }
        Wire::Date => match value {
            ScalarValue::Date32(Some(days)) => {
                let instant = DateTime::from_timestamp(i64::from(*days) * 86_400, 0)?;
                in_all_calendars(&instant)?;
                exact(format!("{name} {sign} '{}'::date", instant.format("%Y-%m-%d")))
            }
            _ => None,
        },
        Wire::Timestamp(ntz) => {
            let micros = match (value, value.data_type()) {
                (
                    ScalarValue::TimestampMicrosecond(Some(micros), zone),
                    DataType::Timestamp(TimeUnit::Microsecond, _),
                ) if zone.is_none() == *ntz => *micros,
                _ => return None,
            };
            let instant = DateTime::from_timestamp_micros(micros)?;
            in_all_calendars(&instant)?;
            let of = if column.is(&Type::TIMESTAMPTZ) || (column.cast.is_some() && !*ntz) {
                "timestamptz"
            } else {
                "timestamp"
            };
            let zone = if of == "timestamptz" { "+00" } else { "" };
            exact(format!("{name} {sign} '{}{zone}'::{of}", instant.format("%Y-%m-%d %H:%M:%S%.6f")))
        }
        Wire::Text => {
            let text = value.try_as_str()??;
            if text.contains('\0') {
                return None;
            }
            if column.is(&Type::UUID) && column.cast.as_deref() == Some("text") {
                // The one spelling that the server gives back; no other is equal to any.
                let canonical = text.len() == 36
                    && text.bytes().enumerate().all(|(at, byte)| match at {
                        8 | 13 | 18 | 23 => byte == b'-',
                        _ => matches!(byte, b'0'..=b'9' | b'a'..=b'f'),
                    });
                return (canonical && !ordered)
                    .then(|| format!("{} {sign} '{text}'::uuid", quoted(&column.name)))
                    .and_then(exact);
            }
            if column.as_it_is() && column.is(&Type::BPCHAR) {
                // The server overlooks trailing blanks: it finds more.
                let sql = format!("{name} = {}", literal(text));
                return is_equal.then_some(Condition { sql, exact: false });
            }
            if is_plain_text(column) && is_equal {
                return exact(format!("{name} = {}", literal(text)));
            }
            let comparable = column.cast.as_deref() == Some("text") || is_plain_text(column);
            comparable.then(|| format!("{name} COLLATE \"C\" {sign} {}", literal(text))).and_then(exact)
        }
        Wire::Bytea | Wire::Time(_) | Wire::Array(_) => None,
    }
}

/// Years in which both sides write dates alike, and which no infinity is read as.
fn in_all_calendars(instant: &DateTime<chrono::Utc>) -> Option<()> {
    use chrono::Datelike;
    (2..9999).contains(&instant.year()).then_some(())
}

/// An integer of this scale, as text.
pub fn decimal_text(value: i128, scale: i8) -> String {
    let sign = if value < 0 { "-" } else { "" };
    let digits = value.unsigned_abs().to_string();
    if scale <= 0 {
        return format!("{sign}{digits}{}", "0".repeat(scale.unsigned_abs() as usize));
    }
    let scale = scale as usize;
    let digits = format!("{digits:0>width$}", width = scale + 1);
    let (whole, fraction) = digits.split_at(digits.len() - scale);
    format!("{sign}{whole}.{fraction}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use datafusion::prelude::{col, lit};

    fn columns() -> Vec<Column> {
        let column = |name: &str, of: Type, cast: Option<&str>, wire: Wire| Column {
            name: name.into(),
            of,
            cast: cast.map(String::from),
            wire,
        };
        vec![
            column("n", Type::INT4, None, Wire::Int4),
            column("t", Type::TEXT, None, Wire::Text),
            column("c", Type::BPCHAR, None, Wire::Text),
            column("u", Type::UUID, Some("text"), Wire::Text),
            column("j", Type::JSONB, Some("text"), Wire::Text),
            column("b", Type::BOOL, None, Wire::Bool),
            column("f", Type::FLOAT8, None, Wire::Float8),
            column("d", Type::NUMERIC, None, Wire::Numeric(10, 2)),
            column("wide", Type::NUMERIC, None, Wire::Numeric(38, 18)),
            column("at", Type::TIMESTAMPTZ, None, Wire::Timestamp(false)),
            column("day", Type::DATE, None, Wire::Date),
        ]
    }

    #[test]
    fn conditions() {
        let check = |filter: Expr, expect: Option<(&str, bool)>| {
            let found = condition(&filter, &columns());
            let expect = expect.map(|(sql, exact)| Condition { sql: sql.into(), exact });
            assert_eq!(found, expect, "{filter}");
        };
        check(col("n").eq(lit(5i32)), Some(("\"n\" = '5'::int8", true)));
        check(lit(-5i64).lt(col("n")), Some(("\"n\" > '-5'::int8", true)));
        check(col("t").eq(lit("o'b\\")), Some(("\"t\" =  E'o''b\\\\'", true)));
        check(col("t").gt(lit("z")), Some(("\"t\" COLLATE \"C\" > 'z'", true)));
        check(col("t").like(lit("ab%")), Some(("\"t\" LIKE 'ab%'", true)));
        check(col("t").like(lit("a_b%")), None);
        check(col("t").eq(lit("a\0")), None);
        check(col("c").eq(lit("a ")), Some(("\"c\" = 'a '", false)));
        check(col("c").not_eq(lit("a ")), None);
        let uuid = "9749f3dc-5dda-47cc-bddb-5e14a58d354f";
        check(col("u").eq(lit(uuid)), Some((&format!("\"u\" = '{uuid}'::uuid"), true)));
        check(col("u").eq(lit(uuid.to_uppercase())), None);
        check(col("u").gt(lit(uuid)), None);
        check(col("j").eq(lit("{}")), Some(("\"j\"::text COLLATE \"C\" = '{}'", true)));
        check(col("b"), Some(("\"b\"", true)));
        check(Expr::Not(Box::new(col("b"))), Some(("NOT \"b\"", true)));
        check(col("f").gt(lit(1.5)), Some(("\"f\" > '1.5e0'::float8", true)));
        check(col("f").gt(lit(0.0)), None);
        let decimal = |value, scale| lit(ScalarValue::Decimal128(Some(value), 10, scale));
        check(col("d").lt(decimal(-105, 2)), Some(("\"d\" < '-1.05'::numeric", true)));
        check(col("wide").lt(decimal(105, 2)), None);
        check(col("n").is_null(), Some(("\"n\" IS NULL", true)));
        check(col("j").is_not_null(), Some(("\"j\" IS NOT NULL", true)));
        check(col("n").eq(lit(1i32)).and(col("unknown").eq(lit(2i32))), Some(("\"n\" = '1'::int8", false)));
        check(col("n").eq(lit(1i32)).or(col("unknown").eq(lit(2i32))), None);
        check(
            col("n").in_list(vec![lit(1i32), lit(2i32)], true),
            Some(("(\"n\" <> '1'::int8 AND \"n\" <> '2'::int8)", true)),
        );
        check(col("n").between(lit(1i32), lit(2i32)), Some(("(\"n\" >= '1'::int8 AND \"n\" <= '2'::int8)", true)));
        let at = |micros: i64| lit(ScalarValue::TimestampMicrosecond(Some(micros), Some("UTC".into())));
        check(col("at").lt(at(1_500_000)), Some(("\"at\" < '1970-01-01 00:00:01.500000+00'::timestamptz", true)));
        check(col("at").lt(at(253_402_300_799_999_999)), None);
        check(col("at").lt(lit(ScalarValue::TimestampMicrosecond(Some(1), None))), None);
        check(col("day").gt_eq(lit(ScalarValue::Date32(Some(1)))), Some(("\"day\" >= '1970-01-02'::date", true)));
        check(col("n").eq(lit(ScalarValue::Int32(None))), None);
    }

    #[test]
    fn decimals_as_text() {
        let check = |value: i128, scale: i8, expect: &str| assert_eq!(decimal_text(value, scale), expect);
        check(-105, 2, "-1.05");
        check(5, 3, "0.005");
        check(7, 0, "7");
        check(7, -2, "700");
        check(0, 2, "0.00");
    }
}
