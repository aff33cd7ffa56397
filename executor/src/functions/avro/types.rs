//! Avro's types and Spark's: the tables of Spark's `SchemaConverters`.

use super::schema::{Kind, Logical, Result, Schema};
use crate::functions::ddl;
use arrow::datatypes::{DataType, Field, Fields, TimeUnit};
use serde_json::{Value, json};
use std::sync::Arc;

/// The largest precision that Spark has.
const PRECISION_MAX: u8 = 38;

/// How a union of several types is named in Spark: its struct's fields.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Members {
    /// `member0`, `member1`, …
    Numbered,
    /// This prefix and the type's name.
    Named(String),
}

/// What a union is in Spark, by the indexes of its branches.
#[derive(Debug, PartialEq, Eq)]
pub enum Layout {
    /// Null alone.
    Null,
    /// This one, or null.
    One(usize),
    /// int and long.
    Long,
    /// float and double.
    Double,
    /// A struct of which one field is set.
    Struct(Vec<usize>),
}

/// What a union is in Spark.
pub fn layout(branches: &[Schema]) -> Layout {
    let present: Vec<usize> = (0..branches.len()).filter(|index| branches[*index].kind != Kind::Null).collect();
    let plain = |kind: Kind| present.iter().any(|index| branches[*index] == Schema::plain(kind.clone()));
    match present.as_slice() {
        [] => Layout::Null,
        [one] => Layout::One(*one),
        [_, _] if plain(Kind::Int) && plain(Kind::Long) => Layout::Long,
        [_, _] if plain(Kind::Float) && plain(Kind::Double) => Layout::Double,
        _ => Layout::Struct(present),
    }
}

/// The Spark type of a schema, every part of it nullable.
///
/// # Errors
/// What Spark has no type for.
pub fn to_arrow(schema: &Schema, members: &Members) -> Result<DataType> {
    Ok(match (&schema.kind, schema.logical) {
        (Kind::Null, _) => DataType::Null,
        (Kind::Boolean, _) => DataType::Boolean,
        (Kind::Int, Logical::Date) => DataType::Date32,
        (Kind::Int, _) => DataType::Int32,
        (Kind::Long, Logical::TimestampMillis | Logical::TimestampMicros) => ddl::timestamp(),
        (Kind::Long, Logical::LocalTimestampMillis | Logical::LocalTimestampMicros) => {
            DataType::Timestamp(TimeUnit::Microsecond, None)
        }
        (Kind::Long, _) => DataType::Int64,
        (Kind::Float, _) => DataType::Float32,
        (Kind::Double, _) => DataType::Float64,
        (Kind::Bytes | Kind::Fixed(_), Logical::Decimal { precision, scale }) => {
            if precision > PRECISION_MAX {
                return Err(format!("decimal({precision}, {scale}) is wider than {PRECISION_MAX} digits"));
            }
            DataType::Decimal128(precision, scale)
        }
        (Kind::Fixed(_), Logical::Uuid) | (Kind::String | Kind::Enum(_), _) => DataType::Utf8,
        (Kind::Bytes | Kind::Fixed(_), _) => DataType::Binary,
        (Kind::Array(item), _) => ddl::array_of(to_arrow(item, members)?),
        (Kind::Map(value), _) => ddl::map_of(DataType::Utf8, to_arrow(value, members)?),
        (Kind::Record(record), _) => {
            let fields = record.fields.iter().map(|field| {
                let data_type =
                    to_arrow(&field.schema, members).map_err(|error| format!("field {}: {error}", field.name))?;
                Ok(Field::new(&field.name, data_type, true))
            });
            DataType::Struct(fields.collect::<Result<Fields>>()?)
        }
        (Kind::Union(branches), _) => match layout(branches) {
            Layout::Null => DataType::Null,
            Layout::One(index) => to_arrow(&branches[index], members)?,
            Layout::Long => DataType::Int64,
            Layout::Double => DataType::Float64,
            Layout::Struct(present) => {
                let fields = present.iter().enumerate().map(|(number, index)| {
                    let branch = &branches[*index];
                    let name = match members {
                        Members::Numbered => format!("member{number}"),
                        Members::Named(prefix) => format!("{prefix}{}", branch.branch_name()),
                    };
                    Ok(Field::new(name, to_arrow(branch, members)?, true))
                });
                let fields = fields.collect::<Result<Fields>>()?;
                let mut names: Vec<_> = fields.iter().map(|field| field.name()).collect();
                names.sort_unstable();
                if let Some(pair) = names.windows(2).find(|pair| pair[0] == pair[1]) {
                    return Err(format!("two branches of a union are called {}", pair[0]));
                }
                DataType::Struct(fields)
            }
        },
        (Kind::Recursive(name), _) => {
            return Err(format!("record {name} contains itself, and Spark SQL has no recursive types"));
        }
    })
}

/// How a schema is derived from a type.
#[derive(Debug, Clone, Copy)]
pub struct Naming<'a> {
    /// Of the outermost record.
    pub record: &'a str,
    /// Of its namespace; empty: none.
    pub namespace: &'a str,
    /// Null is the first branch and the default of what is nullable, so that a column more is a compatible change.
    /// Otherwise it is the second, as in Spark.
    pub null_first: bool,
}

/// The schema in JSON that Spark derives from a type.
///
/// # Errors
/// What Avro has no type for.
pub fn from_arrow(data_type: &DataType, naming: Naming<'_>) -> Result<Value> {
    Ok(match data_type {
        DataType::Null => json!("null"),
        DataType::Boolean => json!("boolean"),
        DataType::Int8 | DataType::Int16 | DataType::Int32 => json!("int"),
        DataType::Int64 => json!("long"),
        DataType::Float32 => json!("float"),
        DataType::Float64 => json!("double"),
        DataType::Utf8 => json!("string"),
        DataType::Binary => json!("bytes"),
        DataType::Date32 => json!({"type": "int", "logicalType": "date"}),
        DataType::Timestamp(_, Some(_)) => json!({"type": "long", "logicalType": "timestamp-micros"}),
        DataType::Timestamp(_, None) => json!({"type": "long", "logicalType": "local-timestamp-micros"}),
        DataType::Decimal128(precision, scale) if *scale >= 0 => {
            let name = if naming.namespace.is_empty() {
                format!("{}.fixed", naming.record)
            } else {
                format!("{}.{}.fixed", naming.namespace, naming.record)
            };
            json!({
                "type": "fixed", "name": name, "size": fixed_size(*precision),
                "logicalType": "decimal", "precision": precision, "scale": scale
            })
        }
        DataType::List(item) => {
            json!({"type": "array", "items": nullable(item, naming)?})
        }
        DataType::Map(entries, _) => match entries.data_type() {
            DataType::Struct(pair) if pair.len() == 2 && pair[0].data_type() == &DataType::Utf8 => {
                json!({"type": "map", "values": nullable(&pair[1], naming)?})
            }
            _ => return Err("keys of Avro maps are text".into()),
        },
        DataType::Struct(fields) => {
            let inner = if naming.namespace.is_empty() {
                naming.record.to_string()
            } else {
                format!("{}.{}", naming.namespace, naming.record)
            };
            let fields = fields
                .iter()
                .map(|field| {
                    let naming = Naming { record: field.name(), namespace: &inner, ..naming };
                    let mut made = json!({"name": field.name(), "type": nullable(field, naming)?});
                    if naming.null_first && field.is_nullable() {
                        made["default"] = Value::Null;
                    }
                    check_name(field.name())?;
                    Ok(made)
                })
                .collect::<Result<Vec<_>>>()?;
            let mut record = json!({"type": "record", "name": naming.record});
            if !naming.namespace.is_empty() {
                record["namespace"] = json!(naming.namespace);
            }
            record["fields"] = Value::Array(fields);
            record
        }
        other => return Err(format!("type {} has no Avro type", ddl::type_name(other))),
    })
}

fn nullable(field: &Field, naming: Naming<'_>) -> Result<Value> {
    let inner = from_arrow(field.data_type(), naming).map_err(|error| format!("field {}: {error}", field.name()))?;
    Ok(match field.is_nullable() && inner != json!("null") {
        true if naming.null_first => json!(["null", inner]),
        true => json!([inner, "null"]),
        false => inner,
    })
}

fn check_name(name: &str) -> Result<()> {
    let begins = name.bytes().next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_');
    if begins && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
        return Ok(());
    }
    Err(format!("{name:?} is no name in Avro, which has letters, digits and _: rename the column"))
}

/// Bytes that a decimal of this precision needs.
pub fn fixed_size(precision: u8) -> usize {
    let most = 10_i128.checked_pow(u32::from(precision)).map_or(i128::MAX, |power| power - 1);
    (1..16).find(|size| most < 1_i128 << (8 * size - 1)).unwrap_or(16)
}

/// The same type in the few forms that encoders know: no views, large offsets, dictionaries, unsigned numbers.
pub fn plain(data_type: &DataType) -> DataType {
    use DataType as T;
    let field = |field: &Arc<Field>| Arc::new(field.as_ref().clone().with_data_type(plain(field.data_type())));
    match data_type {
        T::LargeUtf8 | T::Utf8View => T::Utf8,
        T::LargeBinary | T::BinaryView | T::FixedSizeBinary(_) => T::Binary,
        T::Dictionary(_, value) => plain(value),
        T::UInt8 => T::Int16,
        T::UInt16 => T::Int32,
        T::UInt32 => T::Int64,
        T::UInt64 => T::Decimal128(20, 0),
        T::Float16 => T::Float32,
        T::Decimal32(precision, scale) | T::Decimal64(precision, scale) => T::Decimal128(*precision, *scale),
        T::Timestamp(_, zone) => T::Timestamp(TimeUnit::Microsecond, zone.clone()),
        T::Date64 => T::Date32,
        T::LargeList(item) | T::FixedSizeList(item, _) | T::ListView(item) | T::LargeListView(item) | T::List(item) => {
            T::List(field(item))
        }
        T::Map(entries, sorted) => T::Map(field(entries), *sorted),
        T::Struct(fields) => T::Struct(fields.iter().map(field).collect()),
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(schema: &str, expect: &str) {
        let schema = Schema::parse(schema, &[]).expect("a schema");
        let found = to_arrow(&schema, &Members::Numbered).map(|data_type| ddl::simple_name(&data_type));
        assert_eq!(found.unwrap_or_else(|error| error), expect);
    }

    #[test]
    fn types_of_avro() {
        check(r#""null""#, "void");
        check(r#"{"type":"int","logicalType":"time-millis"}"#, "int");
        check(r#"{"type":"int","logicalType":"date"}"#, "date");
        check(r#"{"type":"long","logicalType":"timestamp-millis"}"#, "timestamp");
        check(r#"{"type":"long","logicalType":"local-timestamp-micros"}"#, "timestamp_ntz");
        check(r#"{"type":"bytes","logicalType":"decimal","precision":9,"scale":2}"#, "decimal(9,2)");
        check(r#"{"type":"bytes","logicalType":"decimal","precision":39}"#, "decimal(39, 0) is wider than 38 digits");
        check(r#"{"type":"fixed","name":"f","size":3}"#, "binary");
        check(r#"{"type":"fixed","name":"f","size":16,"logicalType":"uuid"}"#, "string");
        check(r#"{"type":"map","values":{"type":"array","items":["null","string"]}}"#, "map<string,array<string>>");
        check(r#"["int","null","long"]"#, "bigint");
        check(r#"["float","double"]"#, "double");
        check(r#"["int","string"]"#, "struct<member0:int,member1:string>");
        check(r#"["null"]"#, "void");
        check(
            r#"{"type":"record","name":"r","fields":[{"name":"a","type":["null","r"]}]}"#,
            "field a: record r contains itself, and Spark SQL has no recursive types",
        );
    }

    #[test]
    fn members_by_name() {
        let schema =
            Schema::parse(r#"["int",{"type":"enum","name":"n.Colour","symbols":["RED"]}]"#, &[]).expect("a schema");
        let found = to_arrow(&schema, &Members::Named("member_".into())).expect("a type");
        assert_eq!(ddl::simple_name(&found), "struct<member_int:int,member_colour:string>");
    }

    #[test]
    fn schemas_of_types() {
        let check = |columns: &str, null_first: bool, expect: &str| {
            let schema = ddl::parse_ddl(columns).expect("columns");
            let data_type = DataType::Struct(schema.fields().clone());
            let naming = Naming { record: "topLevelRecord", namespace: "", null_first };
            let found = from_arrow(&data_type, naming).map_or_else(|error| error, |value| value.to_string());
            assert_eq!(found, expect);
        };
        check(
            "id BIGINT NOT NULL, at TIMESTAMP",
            false,
            r#"{"type":"record","name":"topLevelRecord","fields":[{"name":"id","type":"long"},{"name":"at","type":[{"type":"long","logicalType":"timestamp-micros"},"null"]}]}"#,
        );
        check(
            "s STRUCT<d: DECIMAL(9,2)>",
            true,
            r#"{"type":"record","name":"topLevelRecord","fields":[{"name":"s","type":["null",{"type":"record","name":"s","namespace":"topLevelRecord","fields":[{"name":"d","type":["null",{"type":"fixed","name":"topLevelRecord.s.d.fixed","size":4,"logicalType":"decimal","precision":9,"scale":2}],"default":null}]}],"default":null}]}"#,
        );
        check("`a b` INT", false, "\"a b\" is no name in Avro, which has letters, digits and _: rename the column");
        check("m MAP<INT, INT>", false, "field m: keys of Avro maps are text");
    }

    #[test]
    fn sizes_of_decimals() {
        for (precision, size) in [(1, 1), (2, 1), (3, 2), (9, 4), (10, 5), (18, 8), (19, 9), (38, 16)] {
            assert_eq!(fixed_size(precision), size, "{precision}");
        }
    }
}
