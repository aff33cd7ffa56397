//! Avro schemas: JSON to a tree in which every name is resolved.

use serde_json::Value;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// A schema that cannot be used, in words.
pub type Result<T, E = String> = std::result::Result<T, E>;

/// A schema.
#[derive(Debug, Clone, PartialEq)]
pub struct Schema {
    /// What is on the wire.
    pub kind: Kind,
    /// What it stands for. One that does not fit its kind, or is not known, is none, as Avro has it.
    pub logical: Logical,
}

/// What is on the wire.
#[derive(Debug, Clone, PartialEq)]
pub enum Kind {
    Null,
    Boolean,
    Int,
    Long,
    Float,
    Double,
    Bytes,
    String,
    Array(Arc<Schema>),
    Map(Arc<Schema>),
    Union(Arc<Vec<Schema>>),
    Record(Arc<Record>),
    Enum(Arc<Enum>),
    Fixed(Arc<Fixed>),
    /// A record inside itself, by its full name.
    Recursive(Arc<str>),
}

/// Logical types that mean something here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Logical {
    None,
    Decimal { precision: u8, scale: i8 },
    Date,
    TimestampMillis,
    TimestampMicros,
    LocalTimestampMillis,
    LocalTimestampMicros,
    Uuid,
}

/// A full name and its other names.
#[derive(Debug, Clone, PartialEq)]
pub struct Name {
    /// With namespace.
    pub full: String,
    /// With namespace.
    pub aliases: Vec<String>,
}

impl Name {
    /// Without namespace.
    pub fn short(&self) -> &str {
        short(&self.full)
    }
    /// Whether what `writer` wrote may be read as this.
    pub fn reads(&self, writer: &Name) -> bool {
        self.short() == writer.short() || self.aliases.contains(&writer.full)
    }
}

fn short(full: &str) -> &str {
    full.rsplit('.').next().unwrap_or(full)
}

/// A record.
#[derive(Debug, Clone, PartialEq)]
pub struct Record {
    /// Its name.
    pub name: Name,
    /// In the order of the wire.
    pub fields: Vec<Field>,
}

/// A field of a record.
#[derive(Debug, Clone, PartialEq)]
pub struct Field {
    /// Its name.
    pub name: String,
    /// Names by which a writer may have called it.
    pub aliases: Vec<String>,
    /// Its type.
    pub schema: Schema,
    /// In JSON, as the schema has it.
    pub default: Option<Value>,
}

/// An enum.
#[derive(Debug, Clone, PartialEq)]
pub struct Enum {
    /// Its name.
    pub name: Name,
    /// In the order of the wire.
    pub symbols: Vec<String>,
    /// What a reader takes for a symbol that it does not know.
    pub default: Option<String>,
}

/// Bytes of one length.
#[derive(Debug, Clone, PartialEq)]
pub struct Fixed {
    /// Its name.
    pub name: Name,
    /// How many.
    pub size: usize,
}

impl Schema {
    /// A schema without logical type.
    pub fn plain(kind: Kind) -> Self {
        Self { kind, logical: Logical::None }
    }

    /// Reads a schema that may use the named types of `references`, each a schema of its own, dependencies first.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str, references: &[(String, String)]) -> Result<Self> {
        let mut parser = Parser::default();
        for (name, text) in references {
            parser.schema(&json(text).map_err(|error| format!("referenced schema {name}: {error}"))?, "")?;
        }
        parser.schema(&json(text)?, "")
    }

    /// For messages.
    pub fn type_name(&self) -> String {
        match &self.kind {
            Kind::Null => "null".into(),
            Kind::Boolean => "boolean".into(),
            Kind::Int => "int".into(),
            Kind::Long => "long".into(),
            Kind::Float => "float".into(),
            Kind::Double => "double".into(),
            Kind::Bytes => "bytes".into(),
            Kind::String => "string".into(),
            Kind::Array(item) => format!("array<{}>", item.type_name()),
            Kind::Map(value) => format!("map<{}>", value.type_name()),
            Kind::Union(branches) => {
                format!("[{}]", branches.iter().map(Self::type_name).collect::<Vec<_>>().join(", "))
            }
            Kind::Record(record) => format!("record {}", record.name.full),
            Kind::Enum(symbols) => format!("enum {}", symbols.name.full),
            Kind::Fixed(fixed) => format!("fixed {}", fixed.name.full),
            Kind::Recursive(name) => format!("record {name}"),
        }
    }

    /// The name by which it is known among the branches of a union, lower case.
    pub fn branch_name(&self) -> String {
        match &self.kind {
            Kind::Array(_) => "array".into(),
            Kind::Map(_) => "map".into(),
            Kind::Record(record) => record.name.short().to_lowercase(),
            Kind::Enum(symbols) => symbols.name.short().to_lowercase(),
            Kind::Fixed(fixed) => fixed.name.short().to_lowercase(),
            _ => self.type_name(),
        }
    }
}

fn json(text: &str) -> Result<Value> {
    let text = text.trim();
    match serde_json::from_str(text) {
        Ok(value) => Ok(value),
        // A primitive may stand there without quotes.
        Err(_) if !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphabetic()) => Ok(Value::String(text.into())),
        Err(error) => Err(format!("an Avro schema is JSON, and this is not: {error}")),
    }
}

#[derive(Default)]
struct Parser {
    names: HashMap<String, Schema>,
    open: HashSet<String>,
}

impl Parser {
    fn schema(&mut self, value: &Value, namespace: &str) -> Result<Schema> {
        match value {
            Value::String(name) => self.named(name, namespace),
            Value::Array(branches) => {
                let branches: Vec<_> =
                    branches.iter().map(|branch| self.schema(branch, namespace)).collect::<Result<_>>()?;
                if branches.iter().any(|branch| matches!(branch.kind, Kind::Union(_))) {
                    return Err("a union stands directly inside a union".into());
                }
                if branches.is_empty() {
                    return Err("a union has no branches".into());
                }
                Ok(Schema::plain(Kind::Union(Arc::new(branches))))
            }
            Value::Object(object) => {
                let kind = object.get("type").ok_or("a schema object has no \"type\"")?;
                let Value::String(kind) = kind else {
                    // {"type": {…}} is what is inside; a logical type stands at the inner one.
                    return self.schema(kind, namespace);
                };
                let part = |key: &str| object.get(key).ok_or_else(|| format!("{kind} has no \"{key}\""));
                let mut schema = match kind.as_str() {
                    "array" => Schema::plain(Kind::Array(Arc::new(self.schema(part("items")?, namespace)?))),
                    "map" => Schema::plain(Kind::Map(Arc::new(self.schema(part("values")?, namespace)?))),
                    "record" | "error" | "enum" | "fixed" => self.definition(kind, object, namespace)?,
                    other => self.named(other, namespace)?,
                };
                let logical = logical(&schema.kind, object);
                if logical != Logical::None {
                    schema.logical = logical;
                    // What the name stands for from now on.
                    if let Kind::Fixed(fixed) = &schema.kind {
                        self.names.insert(fixed.name.full.clone(), schema.clone());
                    }
                }
                Ok(schema)
            }
            other => Err(format!("{other} is no Avro schema")),
        }
    }

    fn named(&mut self, name: &str, namespace: &str) -> Result<Schema> {
        let kind = match name {
            "null" => Kind::Null,
            "boolean" => Kind::Boolean,
            "int" => Kind::Int,
            "long" => Kind::Long,
            "float" => Kind::Float,
            "double" => Kind::Double,
            "bytes" => Kind::Bytes,
            "string" => Kind::String,
            _ => {
                let full = qualified(name, namespace);
                return match self.names.get(&full).or_else(|| self.names.get(name)) {
                    Some(known) => Ok(known.clone()),
                    None if self.open.contains(&full) => Ok(Schema::plain(Kind::Recursive(full.into()))),
                    None => Err(format!("type {name} is not defined")),
                };
            }
        };
        Ok(Schema::plain(kind))
    }

    fn definition(&mut self, kind: &str, object: &serde_json::Map<String, Value>, outer: &str) -> Result<Schema> {
        let text = |key: &str| object.get(key).and_then(Value::as_str);
        let name = text("name").ok_or_else(|| format!("{kind} has no \"name\""))?;
        let full = qualified(name, text("namespace").unwrap_or(outer));
        let namespace = full.rsplit_once('.').map_or("", |(namespace, _)| namespace).to_string();
        if self.names.contains_key(&full) || !self.open.insert(full.clone()) {
            return Err(format!("type {full} is defined twice"));
        }
        let aliases = strings(object.get("aliases")).into_iter().map(|alias| qualified(alias, &namespace)).collect();
        let name = Name { full: full.clone(), aliases };
        let kind = match kind {
            "enum" => {
                let symbols: Vec<String> = strings(object.get("symbols")).into_iter().map(str::to_string).collect();
                if symbols.is_empty() {
                    return Err(format!("enum {full} has no \"symbols\""));
                }
                let default = text("default").map(str::to_string);
                if default.as_ref().is_some_and(|default| !symbols.contains(default)) {
                    return Err(format!("the default of enum {full} is none of its symbols"));
                }
                Kind::Enum(Arc::new(Enum { name, symbols, default }))
            }
            "fixed" => {
                let size = object.get("size").and_then(Value::as_u64).and_then(|size| usize::try_from(size).ok());
                let size = size.ok_or_else(|| format!("fixed {full} has no \"size\""))?;
                Kind::Fixed(Arc::new(Fixed { name, size }))
            }
            _ => {
                let fields = object.get("fields").and_then(Value::as_array);
                let fields = fields.ok_or_else(|| format!("record {full} has no \"fields\""))?;
                let fields: Vec<Field> =
                    fields.iter().map(|field| self.field(field, &full, &namespace)).collect::<Result<_>>()?;
                let mut seen = HashSet::new();
                if let Some(twice) = fields.iter().find(|field| !seen.insert(&field.name)) {
                    return Err(format!("record {full} has two fields {}", twice.name));
                }
                Kind::Record(Arc::new(Record { name, fields }))
            }
        };
        self.open.remove(&full);
        let schema = Schema::plain(kind);
        self.names.insert(full, schema.clone());
        Ok(schema)
    }

    fn field(&mut self, field: &Value, record: &str, namespace: &str) -> Result<Field> {
        let name = field.get("name").and_then(Value::as_str);
        let name = name.ok_or_else(|| format!("a field of record {record} has no \"name\""))?.to_string();
        let schema = field.get("type").ok_or_else(|| format!("field {name} of record {record} has no \"type\""))?;
        let mut schema =
            self.schema(schema, namespace).map_err(|error| format!("field {name} of record {record}: {error}"))?;
        // A common slip that many writers make and readers accept: the logical type beside the type.
        if let (Some(object), Logical::None) = (field.as_object(), schema.logical) {
            schema.logical = logical(&schema.kind, object);
        }
        Ok(Field {
            aliases: strings(field.get("aliases")).into_iter().map(str::to_string).collect(),
            default: field.get("default").cloned(),
            name,
            schema,
        })
    }
}

fn strings(value: Option<&Value>) -> Vec<&str> {
    value.and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect()
}

fn qualified(name: &str, namespace: &str) -> String {
    if name.contains('.') || namespace.is_empty() { name.to_string() } else { format!("{namespace}.{name}") }
}

fn logical(kind: &Kind, object: &serde_json::Map<String, Value>) -> Logical {
    let number = |key: &str| object.get(key).and_then(Value::as_u64);
    match (object.get("logicalType").and_then(Value::as_str), kind) {
        (Some("decimal"), Kind::Bytes | Kind::Fixed(_)) => {
            let precision =
                number("precision").and_then(|digits| u8::try_from(digits).ok()).filter(|digits| *digits > 0);
            let scale = i8::try_from(number("scale").unwrap_or(0)).ok();
            match (precision, scale) {
                (Some(precision), Some(scale)) if i16::from(scale) <= i16::from(precision) => {
                    Logical::Decimal { precision, scale }
                }
                _ => Logical::None,
            }
        }
        (Some("date"), Kind::Int) => Logical::Date,
        (Some("timestamp-millis"), Kind::Long) => Logical::TimestampMillis,
        (Some("timestamp-micros"), Kind::Long) => Logical::TimestampMicros,
        (Some("local-timestamp-millis"), Kind::Long) => Logical::LocalTimestampMillis,
        (Some("local-timestamp-micros"), Kind::Long) => Logical::LocalTimestampMicros,
        (Some("uuid"), Kind::String) => Logical::Uuid,
        (Some("uuid"), Kind::Fixed(fixed)) if fixed.size == 16 => Logical::Uuid,
        _ => Logical::None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Schema> {
        Schema::parse(text, &[])
    }

    #[test]
    fn names_are_resolved() {
        let schema = parse(
            r#"{"type":"record","name":"Outer","namespace":"a.b","fields":[
                {"name":"x","type":{"type":"enum","name":"E","symbols":["A","B"],"default":"A"}},
                {"name":"y","type":["null","E"],"default":null,"aliases":["z"]},
                {"name":"f","type":{"type":"fixed","name":"c.F","size":4}},
                {"name":"g","type":"c.F"}]}"#,
        );
        let Kind::Record(record) = schema.expect("a schema").kind else { panic!("a record") };
        assert_eq!(record.name.full, "a.b.Outer");
        let Kind::Union(branches) = &record.fields[1].schema.kind else { panic!("a union") };
        assert_eq!(branches[1].type_name(), "enum a.b.E");
        assert_eq!(record.fields[1].default, Some(Value::Null));
        assert_eq!(record.fields[3].schema.type_name(), "fixed c.F");
    }

    #[test]
    fn logical_types() {
        for (text, expect) in [
            (r#"{"type":"int","logicalType":"date"}"#, Logical::Date),
            (r#"{"type":"long","logicalType":"date"}"#, Logical::None),
            (
                r#"{"type":"bytes","logicalType":"decimal","precision":9,"scale":2}"#,
                Logical::Decimal { precision: 9, scale: 2 },
            ),
            (r#"{"type":"bytes","logicalType":"decimal","precision":1,"scale":2}"#, Logical::None),
            (r#"{"type":{"type":"long","logicalType":"timestamp-millis"}}"#, Logical::TimestampMillis),
            (r#"{"type":"fixed","name":"u","size":16,"logicalType":"uuid"}"#, Logical::Uuid),
            (r#"{"type":"string","logicalType":"anything"}"#, Logical::None),
        ] {
            assert_eq!(parse(text).expect(text).logical, expect, "{text}");
        }
    }

    #[test]
    fn references_and_recursion() {
        let address =
            r#"{"type":"record","name":"Address","namespace":"x","fields":[{"name":"city","type":"string"}]}"#;
        let user = r#"{"type":"record","name":"User","fields":[{"name":"home","type":"x.Address"}]}"#;
        assert!(parse(user).expect_err("no such type").contains("x.Address is not defined"));
        Schema::parse(user, &[("x.Address".into(), address.into())]).expect("a reference");
        let list = parse(r#"{"type":"record","name":"L","fields":[{"name":"next","type":["null","L"]}]}"#);
        let Kind::Record(list) = list.expect("recursive").kind else { panic!("a record") };
        assert_eq!(list.fields[0].schema.type_name(), "[null, record L]");
    }

    #[test]
    fn mistakes_are_named() {
        for (text, expect) in [
            ("{", "is JSON"),
            ("42", "42 is no Avro schema"),
            (r#""strin""#, "type strin is not defined"),
            (r#"{"type":"record","name":"R"}"#, "record R has no \"fields\""),
            (r#"{"type":"record","name":"R","fields":[{"name":"a"}]}"#, "field a of record R has no \"type\""),
            (
                r#"{"type":"record","name":"R","fields":[{"name":"a","type":"int"},{"name":"a","type":"int"}]}"#,
                "two fields a",
            ),
            (r#"{"type":"enum","name":"E","symbols":[]}"#, "no \"symbols\""),
            (r#"["int",["null"]]"#, "directly inside"),
            (r#"{"type":"fixed","name":"F"}"#, "no \"size\""),
        ] {
            let error = parse(text).expect_err(text);
            assert!(error.contains(expect), "{text}: {error}");
        }
        assert_eq!(parse("string").expect("bare"), Schema::plain(Kind::String));
    }
}
