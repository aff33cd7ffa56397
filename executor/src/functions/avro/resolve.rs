//! Schema resolution: how bytes of one schema, the writer's, become values of another, the reader's.
//!
//! It is decided once for a pair of schemas; a [`Step`] is what remains to be done for each record.

use super::schema::{Field, Kind, Logical, Result, Schema};
use super::types::{Layout, layout};
use crate::registry::wire::push_zigzag;
use serde_json::Value;

/// Reads one value into one column.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Step {
    Null,
    Boolean,
    Int,
    Long,
    LongToFloat,
    LongToDouble,
    Float,
    FloatToDouble,
    Double,
    Bytes,
    Text,
    Fixed(usize),
    /// The reader's symbol for each of the writer's.
    Symbol(Vec<Option<String>>),
    Date,
    /// Multiplied to microseconds.
    Timestamp(i64),
    /// Of this many bytes, or with their length in front; below this power of ten.
    Decimal {
        size: Option<usize>,
        limit: i128,
    },
    Uuid,
    Array(Box<Step>),
    Map(Box<Step>),
    Record(Box<RecordStep>),
    /// By the writer's branch.
    Union(Vec<Result<Step>>),
    /// Into one field of a struct, whose others are null.
    Member(usize, Box<Step>),
}

/// Reads a record.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct RecordStep {
    /// In the writer's order.
    pub parts: Vec<Part>,
    /// Fields that the writer does not have.
    pub absent: Vec<Absent>,
}

/// A field of the writer's.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Part {
    /// Into this column.
    Read(usize, Step),
    /// Nowhere.
    Skip(Skip),
}

/// A field that the writer does not have: its default, as Avro bytes.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Absent {
    pub column: usize,
    pub bytes: Vec<u8>,
    pub step: Step,
}

/// Passes over one value.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Skip {
    Number,
    Fixed(usize),
    Bytes,
    Array(Box<Skip>),
    Map(Box<Skip>),
    All(Vec<Skip>),
    Union(Vec<Skip>),
}

/// How what `writer` wrote is read as `reader`.
///
/// # Errors
/// Which field cannot be, and by which rule.
pub(super) fn resolve(writer: &Schema, reader: &Schema) -> Result<Step> {
    step(writer, reader, "")
}

fn step(writer: &Schema, reader: &Schema, path: &str) -> Result<Step> {
    if let Kind::Union(branches) = &writer.kind {
        let steps: Vec<_> = branches.iter().map(|branch| step(branch, reader, path)).collect();
        if let Some(error) = steps.iter().all(Result::is_err).then(|| steps.first().cloned()).flatten() {
            return error;
        }
        return Ok(Step::Union(steps));
    }
    if let Kind::Union(branches) = &reader.kind {
        return into_union(writer, branches, path);
    }
    let mismatch =
        || Err(at(path, &format!("written as {}, which is not read as {}", writer.type_name(), reader.type_name())));
    Ok(match (&writer.kind, &reader.kind) {
        (Kind::Null, Kind::Null) => Step::Null,
        (Kind::Boolean, Kind::Boolean) => Step::Boolean,
        (Kind::Int, Kind::Int) if reader.logical == Logical::Date => Step::Date,
        (Kind::Int, Kind::Int) => Step::Int,
        // An int is a long on the wire.
        (Kind::Int | Kind::Long, Kind::Long) => match unit(reader) {
            None => Step::Long,
            Some(unit_read) => Step::Timestamp(unit(writer).unwrap_or(unit_read)),
        },
        (Kind::Int | Kind::Long, Kind::Float) => Step::LongToFloat,
        (Kind::Int | Kind::Long, Kind::Double) => Step::LongToDouble,
        (Kind::Float, Kind::Float) => Step::Float,
        (Kind::Float, Kind::Double) => Step::FloatToDouble,
        (Kind::Double, Kind::Double) => Step::Double,
        (Kind::Bytes | Kind::Fixed(_), Kind::Bytes | Kind::Fixed(_)) if is_decimal(reader) => {
            let size = match &writer.kind {
                Kind::Fixed(fixed) => Some(fixed.size),
                _ => None,
            };
            let Logical::Decimal { precision, scale } = reader.logical else { return mismatch() };
            if let Logical::Decimal { scale: written, .. } = writer.logical
                && written != scale
            {
                return Err(at(path, &format!("a decimal of scale {written} is not read as one of scale {scale}")));
            }
            Step::Decimal { size, limit: 10_i128.checked_pow(u32::from(precision)).unwrap_or(i128::MAX) }
        }
        (Kind::Bytes | Kind::String, Kind::Bytes) => Step::Bytes,
        (Kind::Bytes | Kind::String, Kind::String) => Step::Text,
        (Kind::Fixed(fixed), Kind::String) if writer.logical == Logical::Uuid && fixed.size == 16 => Step::Uuid,
        (Kind::Fixed(written), Kind::Fixed(read)) if written.size == read.size && read.name.reads(&written.name) => {
            if reader.logical == Logical::Uuid {
                Step::Uuid
            } else {
                Step::Fixed(read.size)
            }
        }
        (Kind::Enum(written), Kind::Enum(read)) if read.name.reads(&written.name) => Step::Symbol(
            written
                .symbols
                .iter()
                .map(|symbol| if read.symbols.contains(symbol) { Some(symbol.clone()) } else { read.default.clone() })
                .collect(),
        ),
        (Kind::Array(written), Kind::Array(read)) => {
            Step::Array(Box::new(step(written, read, &join(path, "element"))?))
        }
        (Kind::Map(written), Kind::Map(read)) => Step::Map(Box::new(step(written, read, &join(path, "value"))?)),
        (Kind::Record(written), Kind::Record(read)) if read.name.reads(&written.name) => {
            record(&written.fields, &read.fields, path)?
        }
        _ => return mismatch(),
    })
}

fn record(written: &[Field], read: &[Field], path: &str) -> Result<Step> {
    let source = |field: &Field| {
        let by_name = written.iter().position(|known| known.name == field.name);
        by_name.or_else(|| written.iter().position(|known| field.aliases.contains(&known.name)))
    };
    let sources: Vec<Option<usize>> = read.iter().map(source).collect();
    let mut parts = Vec::with_capacity(written.len());
    for (index, field) in written.iter().enumerate() {
        let mut targets = (0..read.len()).filter(|target| sources[*target] == Some(index));
        parts.push(match (targets.next(), targets.next()) {
            (None, _) => Part::Skip(skip(&field.schema).map_err(|error| at(&join(path, &field.name), &error))?),
            (Some(target), None) => {
                let path = join(path, &read[target].name);
                Part::Read(target, step(&field.schema, &read[target].schema, &path)?)
            }
            (Some(_), Some(_)) => {
                return Err(at(&join(path, &field.name), "two fields of the reader's schema are it by their aliases"));
            }
        });
    }
    let mut absent = vec![];
    for (column, field) in read.iter().enumerate().filter(|(column, _)| sources[*column].is_none()) {
        let path = join(path, &field.name);
        let Some(default) = &field.default else {
            return Err(at(&path, "it is not in the schema that the record was written with, and has no default"));
        };
        let mut bytes = vec![];
        push_default(&field.schema, default, &mut bytes).map_err(|error| at(&path, &error))?;
        absent.push(Absent { column, bytes, step: step(&field.schema, &field.schema, &path)? });
    }
    Ok(Step::Record(Box::new(RecordStep { parts, absent })))
}

fn into_union(writer: &Schema, branches: &[Schema], path: &str) -> Result<Step> {
    // One of the same type comes before one that it can be promoted to.
    let same = |branch: &Schema| match (&writer.kind, &branch.kind) {
        (Kind::Record(a), Kind::Record(b)) => b.name.reads(&a.name),
        (Kind::Enum(a), Kind::Enum(b)) => b.name.reads(&a.name),
        (Kind::Fixed(a), Kind::Fixed(b)) => b.name.reads(&a.name),
        (a, b) => std::mem::discriminant(a) == std::mem::discriminant(b),
    };
    let candidates = branches.iter().enumerate();
    let ordered =
        candidates.clone().filter(|(_, branch)| same(branch)).chain(candidates.filter(|(_, branch)| !same(branch)));
    let mut error = None;
    for (index, branch) in ordered {
        let found = match step(writer, branch, path) {
            Ok(found) => found,
            Err(reason) => {
                // That something is not null explains nothing, where it may be something else.
                if branches.len() == 1 || !matches!(branch.kind, Kind::Null) {
                    error.get_or_insert(reason);
                }
                continue;
            }
        };
        return Ok(match (layout(branches), found) {
            (_, Step::Null) => Step::Null,
            (Layout::Long, Step::Int) => Step::Long,
            (Layout::Double, Step::Float) => Step::FloatToDouble,
            (Layout::Double, Step::LongToFloat) => Step::LongToDouble,
            (Layout::Struct(present), found) => {
                let member = present.iter().position(|present| *present == index);
                Step::Member(member.ok_or("a branch of a union has no column")?, Box::new(found))
            }
            (_, found) => found,
        });
    }
    Err(error.unwrap_or_else(|| at(path, "a union without branches")))
}

/// What of the writer's schema would not be read, though records without it are: a branch of a union, a symbol.
pub(super) fn gap(step: &Step) -> Option<String> {
    match step {
        Step::Union(branches) => branches.iter().find_map(|branch| match branch {
            Ok(step) => gap(step),
            Err(why) => Some(why.clone()),
        }),
        Step::Symbol(symbols) if symbols.contains(&None) => {
            Some("an enum has a symbol that the reader's schema does not have".into())
        }
        Step::Array(inner) | Step::Map(inner) | Step::Member(_, inner) => gap(inner),
        Step::Record(record) => record.parts.iter().find_map(|part| match part {
            Part::Read(_, step) => gap(step),
            Part::Skip(_) => None,
        }),
        _ => None,
    }
}

/// Microseconds of a timestamp's unit.
fn unit(schema: &Schema) -> Option<i64> {
    match schema.logical {
        Logical::TimestampMillis | Logical::LocalTimestampMillis => Some(1000),
        Logical::TimestampMicros | Logical::LocalTimestampMicros => Some(1),
        _ => None,
    }
}

fn is_decimal(schema: &Schema) -> bool {
    matches!(schema.logical, Logical::Decimal { .. })
}

fn at(path: &str, why: &str) -> String {
    if path.is_empty() { why.to_string() } else { format!("field `{path}`: {why}") }
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_string() } else { format!("{path}.{name}") }
}

fn skip(schema: &Schema) -> Result<Skip> {
    Ok(match &schema.kind {
        Kind::Null => Skip::Fixed(0),
        Kind::Boolean => Skip::Fixed(1),
        Kind::Int | Kind::Long | Kind::Enum(_) => Skip::Number,
        Kind::Float => Skip::Fixed(4),
        Kind::Double => Skip::Fixed(8),
        Kind::Bytes | Kind::String => Skip::Bytes,
        Kind::Fixed(fixed) => Skip::Fixed(fixed.size),
        Kind::Array(item) => Skip::Array(Box::new(skip(item)?)),
        Kind::Map(value) => Skip::Map(Box::new(skip(value)?)),
        Kind::Record(record) => {
            Skip::All(record.fields.iter().map(|field| skip(&field.schema)).collect::<Result<_>>()?)
        }
        Kind::Union(branches) => Skip::Union(branches.iter().map(skip).collect::<Result<_>>()?),
        Kind::Recursive(name) => return Err(format!("record {name} contains itself, which is not supported")),
    })
}

/// A default, which a schema has in JSON, as Avro bytes.
///
/// # Errors
/// A default that is not of its type.
pub(super) fn push_default(schema: &Schema, value: &Value, out: &mut Vec<u8>) -> Result<()> {
    let wrong = || format!("the default {value} is no {}", schema.type_name());
    // Bytes are written as text whose code points are the bytes.
    let bytes = || -> Result<Vec<u8>> {
        let text = value.as_str().ok_or_else(wrong)?;
        text.chars().map(|character| u8::try_from(u32::from(character)).map_err(|_| wrong())).collect()
    };
    match &schema.kind {
        Kind::Null if value.is_null() => {}
        Kind::Boolean => out.push(u8::from(value.as_bool().ok_or_else(wrong)?)),
        Kind::Int => {
            push_zigzag(value.as_i64().filter(|number| i32::try_from(*number).is_ok()).ok_or_else(wrong)?, out)
        }
        Kind::Long => push_zigzag(value.as_i64().ok_or_else(wrong)?, out),
        Kind::Float => out.extend((value.as_f64().ok_or_else(wrong)? as f32).to_le_bytes()),
        Kind::Double => out.extend(value.as_f64().ok_or_else(wrong)?.to_le_bytes()),
        Kind::Bytes => push_bytes(&bytes()?, out),
        Kind::String => push_bytes(value.as_str().ok_or_else(wrong)?.as_bytes(), out),
        Kind::Fixed(fixed) => {
            let bytes = bytes()?;
            if bytes.len() != fixed.size {
                return Err(wrong());
            }
            out.extend(bytes);
        }
        Kind::Enum(symbols) => {
            let symbol = value.as_str().and_then(|symbol| symbols.symbols.iter().position(|known| known == symbol));
            push_zigzag(symbol.ok_or_else(wrong)? as i64, out);
        }
        Kind::Array(item) => {
            let items = value.as_array().ok_or_else(wrong)?;
            if !items.is_empty() {
                push_zigzag(items.len() as i64, out);
                items.iter().try_for_each(|value| push_default(item, value, out))?;
            }
            out.push(0);
        }
        Kind::Map(values) => {
            let entries = value.as_object().ok_or_else(wrong)?;
            if !entries.is_empty() {
                push_zigzag(entries.len() as i64, out);
                for (key, value) in entries {
                    push_bytes(key.as_bytes(), out);
                    push_default(values, value, out)?;
                }
            }
            out.push(0);
        }
        Kind::Record(record) => {
            let given = value.as_object().ok_or_else(wrong)?;
            for field in &record.fields {
                let value = given.get(&field.name).or(field.default.as_ref()).ok_or_else(wrong)?;
                push_default(&field.schema, value, out)?;
            }
        }
        Kind::Union(branches) => {
            // The first, says the specification; writers are known to mean another.
            for (index, branch) in branches.iter().enumerate() {
                let begin = out.len();
                push_zigzag(index as i64, out);
                match push_default(branch, value, out) {
                    Ok(()) => return Ok(()),
                    Err(_) => out.truncate(begin),
                }
            }
            return Err(wrong());
        }
        _ => return Err(wrong()),
    }
    Ok(())
}

/// Bytes with their length in front.
pub(super) fn push_bytes(bytes: &[u8], out: &mut Vec<u8>) {
    push_zigzag(bytes.len() as i64, out);
    out.extend_from_slice(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schema(text: &str) -> Schema {
        Schema::parse(text, &[]).expect(text)
    }

    fn refused(writer: &str, reader: &str, expect: &str) {
        let error = resolve(&schema(writer), &schema(reader)).expect_err(expect);
        assert!(error.contains(expect), "{error}");
    }

    #[test]
    fn what_is_not_resolved_is_explained() {
        let record = |fields: &str| format!(r#"{{"type":"record","name":"R","fields":[{fields}]}}"#);
        let id = r#"{"name":"id","type":"long"}"#;
        refused(
            &record(id),
            &record(&format!(r#"{id},{{"name":"b","type":"int"}}"#)),
            "field `b`: it is not in the schema that the record was written with, and has no default",
        );
        refused(
            &record(id),
            &record(r#"{"name":"id","type":"string"}"#),
            "field `id`: written as long, which is not read as string",
        );
        refused(
            &record(r#"{"name":"a","type":{"type":"array","items":"string"}}"#),
            &record(r#"{"name":"a","type":{"type":"array","items":"int"}}"#),
            "field `a.element`: written as string",
        );
        refused(&record(id), &record(r#"{"name":"b","type":"int","default":"x"}"#), "the default \"x\" is no int");
        refused(r#""string""#, r#"["null","int"]"#, "written as string, which is not read as int");
        refused(
            r#"{"type":"bytes","logicalType":"decimal","precision":9,"scale":2}"#,
            r#"{"type":"bytes","logicalType":"decimal","precision":9,"scale":3}"#,
            "a decimal of scale 2 is not read as one of scale 3",
        );
    }

    #[test]
    fn unions_take_the_same_type_first() {
        let found = resolve(&schema(r#""long""#), &schema(r#"["double","long","string"]"#)).expect("a step");
        assert_eq!(found, Step::Member(1, Box::new(Step::Long)));
        let found = resolve(&schema(r#""int""#), &schema(r#"["string","double"]"#)).expect("a step");
        assert_eq!(found, Step::Member(1, Box::new(Step::LongToDouble)));
        let found = resolve(&schema(r#"["null","int"]"#), &schema(r#"["long","null"]"#)).expect("a step");
        assert_eq!(found, Step::Union(vec![Ok(Step::Null), Ok(Step::Long)]));
    }

    #[test]
    fn gaps_are_found_where_records_may_do_without() {
        let record = |field: &str| {
            schema(&format!(r#"{{"type":"record","name":"R","fields":[{{"name":"a","type":{field}}}]}}"#))
        };
        let found = |writer: &str, reader: &str| gap(&resolve(&record(writer), &record(reader)).expect("lazily"));
        assert_eq!(found(r#"["null","long"]"#, r#"["long","null"]"#), None);
        let why = found(r#"["null","long"]"#, r#"["null","string"]"#).expect("a gap");
        assert!(why.starts_with("field `a`: written as long"), "{why}");
    }

    #[test]
    fn defaults_are_bytes() {
        let check = |text: &str, value: Value, expect: &[u8]| {
            let mut out = vec![];
            push_default(&schema(text), &value, &mut out).expect(text);
            assert_eq!(out, expect, "{text}");
        };
        check(r#"["null","int"]"#, Value::Null, &[0]);
        check(r#"["null","int"]"#, 7.into(), &[2, 14]);
        check(r#""bytes""#, "\u{ff}a".into(), &[4, 0xff, b'a']);
        check(r#"{"type":"array","items":"int"}"#, serde_json::json!([1, 2]), &[4, 2, 4, 0]);
        check(r#"{"type":"map","values":"int"}"#, serde_json::json!({}), &[0]);
    }
}
