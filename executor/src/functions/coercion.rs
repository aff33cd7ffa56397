//! Which type two types have in common: Spark's rules, as functions of types.
//!
//! ANSI mode is the rule; what is more lenient without it is asked for by `ansi: false`.

use super::ddl;
use arrow::datatypes::{DataType, Field, Fields, TimeUnit};
use std::sync::Arc;

/// Spark's widest decimal.
pub const PRECISION_MAX: u8 = 38;
/// The scale that Spark keeps when a decimal's digits must be cut.
const SCALE_KEPT: u8 = 6;

/// STRING in any of Arrow's forms.
pub fn is_text(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View)
}

/// BINARY in any of Arrow's forms.
pub fn is_binary(data_type: &DataType) -> bool {
    use DataType as T;
    matches!(data_type, T::Binary | T::LargeBinary | T::BinaryView | T::FixedSizeBinary(_))
}

/// FLOAT or DOUBLE.
pub fn is_fractional(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Float16 | DataType::Float32 | DataType::Float64)
}

/// Precision and scale of a decimal, and of a whole number as one.
pub fn as_decimal(data_type: &DataType) -> Option<(u8, i8)> {
    use DataType as T;
    Some(match data_type {
        T::Decimal32(p, s) | T::Decimal64(p, s) | T::Decimal128(p, s) | T::Decimal256(p, s) => (*p, *s),
        T::Int8 => (3, 0),
        T::Int16 | T::UInt8 => (5, 0),
        T::Int32 | T::UInt16 => (10, 0),
        T::Int64 | T::UInt32 => (20, 0),
        T::UInt64 => (20, 0),
        _ => return None,
    })
}

/// DECIMAL in any of Arrow's widths.
pub fn is_decimal(data_type: &DataType) -> bool {
    use DataType as T;
    matches!(data_type, T::Decimal32(..) | T::Decimal64(..) | T::Decimal128(..) | T::Decimal256(..))
}

/// A decimal of these digits; more than 38 are cut as Spark does, from the fraction first, but not below six.
pub fn bounded(precision: i32, scale: i32) -> DataType {
    let most = i32::from(PRECISION_MAX);
    if precision <= most {
        return DataType::Decimal128(precision.max(1) as u8, scale as i8);
    }
    if scale < 0 {
        return DataType::Decimal128(PRECISION_MAX, scale as i8);
    }
    let whole = precision - scale;
    let kept = scale.min(i32::from(SCALE_KEPT));
    DataType::Decimal128(PRECISION_MAX, (most - whole).max(kept) as i8)
}

/// The decimal that holds both.
pub fn wider_decimal((p1, s1): (u8, i8), (p2, s2): (u8, i8)) -> DataType {
    let scale = i32::from(s1.max(s2));
    let whole = (i32::from(p1) - i32::from(s1)).max(i32::from(p2) - i32::from(s2));
    // As `DecimalType.bounded`: no digit of the fraction is given up for whole digits.
    DataType::Decimal128((whole + scale).min(i32::from(PRECISION_MAX)) as u8, scale.min(i32::from(PRECISION_MAX)) as i8)
}

/// The type of `left op right` of two decimals.
pub fn decimal_result(op: char, (p1, s1): (u8, i8), (p2, s2): (u8, i8)) -> DataType {
    let (p1, s1, p2, s2) = (i32::from(p1), i32::from(s1), i32::from(p2), i32::from(s2));
    match op {
        '+' | '-' => {
            let scale = s1.max(s2);
            bounded((p1 - s1).max(p2 - s2) + scale + 1, scale)
        }
        '*' => bounded(p1 + p2 + 1, s1 + s2),
        '/' => {
            let scale = (s1 + p2 + 1).max(i32::from(SCALE_KEPT));
            bounded(p1 - s1 + s2 + scale, scale)
        }
        // The remainder.
        _ => {
            let scale = s1.max(s2);
            bounded((p1 - s1).min(p2 - s2) + scale, scale)
        }
    }
}

fn integer_rank(data_type: &DataType) -> Option<u8> {
    use DataType as T;
    Some(match data_type {
        T::Int8 => 1,
        T::Int16 | T::UInt8 => 2,
        T::Int32 | T::UInt16 => 3,
        T::Int64 | T::UInt32 | T::UInt64 => 4,
        _ => return None,
    })
}

fn integer_of(rank: u8) -> DataType {
    match rank {
        1 => DataType::Int8,
        2 => DataType::Int16,
        3 => DataType::Int32,
        _ => DataType::Int64,
    }
}

/// The type that holds values of both without loss of kind: numbers, temporal types, nested ones, NULL. No strings.
pub fn tightest(left: &DataType, right: &DataType) -> Option<DataType> {
    use DataType as T;
    if left == right {
        return Some(left.clone());
    }
    if is_text(left) && is_text(right) {
        return Some(T::Utf8);
    }
    if is_binary(left) && is_binary(right) {
        return Some(T::Binary);
    }
    Some(match (left, right) {
        (T::Null, other) | (other, T::Null) => other.clone(),
        (l, r) if integer_rank(l).is_some() && integer_rank(r).is_some() => {
            integer_of(integer_rank(l)?.max(integer_rank(r)?))
        }
        (l, r) if is_fractional(l) && is_fractional(r) => T::Float64,
        (l, r) if is_decimal(l) && is_fractional(r) || is_fractional(l) && is_decimal(r) => T::Float64,
        // Spark makes FLOAT and an integer DOUBLE in ANSI mode.
        (l, r) if is_fractional(l) && r.is_integer() || l.is_integer() && is_fractional(r) => T::Float64,
        (l, r) if as_decimal(l).is_some() && as_decimal(r).is_some() => wider_decimal(as_decimal(l)?, as_decimal(r)?),
        (T::Date32, T::Timestamp(..)) => canonical_time(right),
        (T::Timestamp(..), T::Date32) => canonical_time(left),
        (T::Timestamp(_, l), T::Timestamp(_, r)) => {
            if l.is_none() && r.is_none() {
                T::Timestamp(TimeUnit::Microsecond, None)
            } else {
                ddl::timestamp()
            }
        }
        (T::List(l), T::List(r)) => {
            let item = common([l.data_type(), r.data_type()])?;
            T::List(Arc::new(Field::new_list_field(item, true)))
        }
        (T::Map(l, _), T::Map(r, _)) => {
            let (T::Struct(l), T::Struct(r)) = (l.data_type(), r.data_type()) else { return None };
            let key = common([l[0].data_type(), r[0].data_type()])?;
            ddl::map_of(key, common([l[1].data_type(), r[1].data_type()])?)
        }
        (T::Struct(l), T::Struct(r)) if l.len() == r.len() => {
            let fields = l
                .iter()
                .zip(r)
                .map(|(l, r)| {
                    let same = l.name().eq_ignore_ascii_case(r.name());
                    same.then(|| common([l.data_type(), r.data_type()]))
                        .flatten()
                        .map(|data_type| Field::new(l.name(), data_type, true))
                })
                .collect::<Option<Fields>>()?;
            T::Struct(fields)
        }
        _ => return None,
    })
}

fn canonical_time(data_type: &DataType) -> DataType {
    match data_type {
        DataType::Timestamp(_, None) => DataType::Timestamp(TimeUnit::Microsecond, None),
        _ => ddl::timestamp(),
    }
}

/// The common type of branches (CASE, coalesce, UNION, arrays): in ANSI mode a string takes the other's type.
pub fn common<'a>(types: impl IntoIterator<Item = &'a DataType>) -> Option<DataType> {
    let mut found = DataType::Null;
    for data_type in types {
        found = wider(&found, data_type, true)?;
    }
    Some(found)
}

/// As [`common`] of two; without ANSI mode a string and an atomic type are strings.
pub fn wider(left: &DataType, right: &DataType, ansi: bool) -> Option<DataType> {
    tightest(left, right).or_else(|| match (is_text(left), is_text(right)) {
        (true, false) => with_text(right, ansi),
        (false, true) => with_text(left, ansi),
        _ => None,
    })
}

fn with_text(other: &DataType, ansi: bool) -> Option<DataType> {
    use DataType as T;
    let atomic = other.is_numeric() || matches!(other, T::Boolean | T::Date32 | T::Timestamp(..)) || is_binary(other);
    if !atomic {
        return None;
    }
    if !ansi {
        return Some(T::Utf8);
    }
    Some(match other {
        other if other.is_integer() => T::Int64,
        other if other.is_numeric() => T::Float64,
        other if is_binary(other) => T::Binary,
        other => other.clone(),
    })
}

/// The type that two operands of a comparison are cast to.
pub fn compared(left: &DataType, right: &DataType, ansi: bool) -> Option<DataType> {
    use DataType as T;
    if let Some(found) = tightest(left, right) {
        return Some(found);
    }
    let (text, other) = match (is_text(left), is_text(right)) {
        (true, false) => (left, right),
        (false, true) => (right, left),
        _ => return None,
    };
    if ansi {
        return wider(text, other, true);
    }
    Some(match other {
        other if other.is_integer() => other.clone(),
        other if other.is_numeric() => T::Float64,
        T::Boolean | T::Date32 | T::Timestamp(..) => other.clone(),
        other if is_binary(other) => T::Binary,
        _ => return None,
    })
}

/// The operands' type of arithmetic on numbers and strings; none where it is no arithmetic on numbers. Decimals are the
/// caller's business: precisions follow from both operands.
pub fn arithmetic(left: &DataType, right: &DataType, ansi: bool) -> Option<DataType> {
    use DataType as T;
    let number = |one: &DataType| one.is_numeric();
    match (left, right) {
        (T::Null, T::Null) => Some(T::Float64),
        (l, r) if (number(l) || *l == T::Null) && (number(r) || *r == T::Null) => tightest(l, r),
        (l, r) if is_text(l) && (number(r) || *r == T::Null) || (number(l) || *l == T::Null) && is_text(r) => {
            let other = if is_text(l) { r } else { l };
            if !ansi {
                return Some(T::Float64);
            }
            Some(if other.is_integer() { T::Int64 } else { T::Float64 })
        }
        (l, r) if is_text(l) && is_text(r) && !ansi => Some(T::Float64),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(text: &str) -> DataType {
        if text == "void" { DataType::Null } else { ddl::parse_type(text).expect(text) }
    }

    fn shown(found: Option<DataType>) -> String {
        found.map_or_else(|| "none".into(), |found| ddl::simple_name(&found))
    }

    #[test]
    fn branches_have_a_common_type() {
        let check = |left: &str, right: &str, expect: &str| {
            assert_eq!(shown(common([&named(left), &named(right)])), expect, "{left}, {right}");
        };
        check("int", "bigint", "bigint");
        check("int", "decimal(2,1)", "decimal(11,1)");
        check("bigint", "float", "double");
        check("void", "array<int>", "array<int>");
        check("string", "int", "bigint");
        check("string", "date", "date");
        check("date", "timestamp", "timestamp");
        check("array<int>", "array<string>", "array<bigint>");
        check("struct<a: int>", "struct<A: double>", "struct<a:double>");
        check("boolean", "int", "none");
        check("date", "int", "none");
        assert_eq!(shown(wider(&named("string"), &named("int"), false)), "string");
        assert_eq!(shown(compared(&named("string"), &named("int"), false)), "int");
    }

    #[test]
    fn decimals_keep_sparks_digits() {
        let check = |op: char, left: (u8, i8), right: (u8, i8), expect: &str| {
            assert_eq!(ddl::simple_name(&decimal_result(op, left, right)), expect, "{left:?} {op} {right:?}");
        };
        check('+', (3, 2), (4, 3), "decimal(5,3)");
        check('*', (3, 2), (4, 3), "decimal(8,5)");
        check('*', (38, 10), (38, 10), "decimal(38,6)");
        check('/', (10, 2), (10, 2), "decimal(23,13)");
        check('/', (20, 5), (20, 5), "decimal(38,18)");
        check('/', (3, 2), (1, 0), "decimal(7,6)");
        check('%', (3, 1), (1, 0), "decimal(2,1)");
    }
}
