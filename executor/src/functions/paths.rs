//! `get_json_object` and other functions that look into JSON text without a schema.

use super::ddl;
use super::native::{Call, Function, Param, Returns, invalid};
use arrow::array::{Array, ArrayRef, ListBuilder, StringBuilder};
use arrow::datatypes::{DataType, Int32Type};
use datafusion::error::Result;
use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::Value;
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

/// The functions.
pub fn functions() -> Vec<Function> {
    const TEXT: Returns = Returns::Type(|| DataType::Utf8);
    vec![
        Function::new("get_json_object", &[Param::Text, Param::Text], TEXT, |call: &Call<'_>| {
            let mut paths: HashMap<String, Option<Vec<Step>>> = HashMap::new();
            call.text_rows(|i| {
                let text = call.text(1).value(i);
                if !paths.contains_key(text) {
                    paths.insert(text.to_string(), parse_path(text));
                }
                let Some(Some(path)) = paths.get(text) else { return Ok(None) };
                let Ok(value) = serde_json::from_str::<Value>(call.text(0).value(i)) else { return Ok(None) };
                Ok(found(&value, path))
            })
        }),
        Function::new("json_array_length", &[Param::Text], Returns::Type(|| DataType::Int32), |call: &Call<'_>| {
            call.rows::<Int32Type>(|i| match serde_json::from_str::<Value>(call.text(0).value(i)) {
                Ok(Value::Array(items)) => Ok(Some(items.len() as i32)),
                _ => Ok(None),
            })
        }),
        Function::new("json_object_keys", &[Param::Text], Returns::Type(|| ddl::array_of(DataType::Utf8)), keys),
        Function::new("schema_of_json", &[Param::Text], TEXT, |call: &Call<'_>| {
            call.text_rows(|i| schema_of(call.text(0).value(i)).map(Some))
        }),
        Function::new("json_tuple_at", &[Param::Text, Param::Text], TEXT, |call: &Call<'_>| {
            call.text_rows(|i| {
                let Ok(Value::Object(fields)) = serde_json::from_str::<Value>(call.text(0).value(i)) else {
                    return Ok(None);
                };
                Ok(fields.get(call.text(1).value(i)).and_then(shown))
            })
        }),
    ]
}

/// What `schema_of_json` says of a text.
///
/// # Errors
/// Text that is no JSON.
pub fn schema_of(text: &str) -> Result<String> {
    match serde_json::from_str::<Value>(text) {
        Ok(value) => Ok(ddl::type_name(&inferred(&value))),
        Err(_) => {
            invalid("MALFORMED_RECORD_IN_PARSING.WITHOUT_SUGGESTION", "schema_of_json takes an example of valid JSON")
        }
    }
}

#[derive(Debug, PartialEq)]
enum Step {
    Key(String),
    Index(usize),
    Every,
}

/// `$.a['b.c'][1][*]`; none where Spark finds no path.
fn parse_path(text: &str) -> Option<Vec<Step>> {
    let mut rest = text.strip_prefix('$')?;
    let mut steps = vec![];
    while !rest.is_empty() {
        if let Some(after) = rest.strip_prefix('.') {
            let end = after.find(['.', '[']).unwrap_or(after.len());
            if end == 0 {
                return None;
            }
            steps.push(if &after[..end] == "*" { Step::Every } else { Step::Key(after[..end].to_string()) });
            rest = &after[end..];
        } else if let Some(after) = rest.strip_prefix("['") {
            let end = after.find("']")?;
            steps.push(Step::Key(after[..end].to_string()));
            rest = &after[end + 2..];
        } else if let Some(after) = rest.strip_prefix('[') {
            let end = after.find(']')?;
            steps.push(if &after[..end] == "*" { Step::Every } else { Step::Index(after[..end].parse().ok()?) });
            rest = &after[end + 1..];
        } else {
            return None;
        }
    }
    Some(steps)
}

fn found(value: &Value, path: &[Step]) -> Option<String> {
    let mut all = vec![];
    collect(value, path, &mut all);
    let every = path.contains(&Step::Every);
    match all.as_slice() {
        [] => None,
        [one] => {
            if !(every && matches!(path.last(), Some(Step::Every))) {
                shown(one)
            } else {
                Some(one.to_string())
            }
        }
        many => Some(Value::Array(many.iter().map(|one| (*one).clone()).collect()).to_string()),
    }
}

fn collect<'a>(value: &'a Value, path: &[Step], all: &mut Vec<&'a Value>) {
    let Some((step, rest)) = path.split_first() else {
        all.push(value);
        return;
    };
    match (step, value) {
        (Step::Key(key), Value::Object(fields)) => {
            if let Some(value) = fields.get(key) {
                collect(value, rest, all);
            }
        }
        (Step::Index(at), Value::Array(items)) => {
            if let Some(value) = items.get(*at) {
                collect(value, rest, all);
            }
        }
        (Step::Every, Value::Array(items)) => items.iter().for_each(|value| collect(value, rest, all)),
        _ => {}
    }
}

/// Text as it is, null as none, all else as JSON.
fn shown(value: &Value) -> Option<String> {
    match value {
        Value::Null => None,
        Value::String(text) => Some(text.clone()),
        other => Some(other.to_string()),
    }
}

/// The keys of an object in order, one that comes twice twice.
struct Keys(Vec<String>);

impl<'de> Deserialize<'de> for Keys {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        struct Object;

        impl<'de> Visitor<'de> for Object {
            type Value = Keys;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> std::result::Result<Keys, A::Error> {
                let mut keys = vec![];
                while let Some((key, IgnoredAny)) = fields.next_entry()? {
                    keys.push(key);
                }
                Ok(Keys(keys))
            }
        }

        deserializer.deserialize_map(Object)
    }
}

fn keys(call: &Call<'_>) -> Result<ArrayRef> {
    let mut builder = ListBuilder::new(StringBuilder::new());
    for i in 0..call.rows {
        let skipped = call.skip(i) || call.text(0).is_null(i);
        match (!skipped).then(|| serde_json::from_str::<Keys>(call.text(0).value(i))) {
            Some(Ok(Keys(keys))) => {
                keys.iter().for_each(|key| builder.values().append_value(key));
                builder.append(true);
            }
            _ => builder.append_null(),
        }
    }
    Ok(Arc::new(builder.finish()))
}

fn inferred(value: &Value) -> DataType {
    match value {
        Value::Null | Value::String(_) => DataType::Utf8,
        Value::Bool(_) => DataType::Boolean,
        Value::Number(number) if number.is_i64() => DataType::Int64,
        // Whole, and too large for a BIGINT.
        Value::Number(number) if number.is_u64() => DataType::Decimal128(number.to_string().len() as u8, 0),
        Value::Number(_) => DataType::Float64,
        Value::Array(items) => {
            let items = items.iter().filter(|item| !item.is_null()).map(inferred);
            ddl::array_of(items.reduce(merged).unwrap_or(DataType::Utf8))
        }
        Value::Object(fields) => {
            let mut fields: Vec<(&String, &Value)> = fields.iter().collect();
            fields.sort_by_key(|(name, _)| name.as_str());
            let fields =
                fields.into_iter().map(|(name, value)| arrow::datatypes::Field::new(name, inferred(value), true));
            DataType::Struct(fields.collect())
        }
    }
}

/// The type that holds values of both, text if there is no other.
fn merged(one: DataType, other: DataType) -> DataType {
    use DataType as T;
    match (one, other) {
        (one, other) if one == other => one,
        (T::Int64 | T::Decimal128(..), T::Float64) | (T::Float64, T::Int64 | T::Decimal128(..)) => T::Float64,
        (T::Int64, T::Decimal128(digits, 0)) | (T::Decimal128(digits, 0), T::Int64) => T::Decimal128(digits.max(19), 0),
        (T::List(one), T::List(other)) => ddl::array_of(merged(one.data_type().clone(), other.data_type().clone())),
        (T::Struct(one), T::Struct(other)) => {
            let mut all: std::collections::BTreeMap<String, DataType> = std::collections::BTreeMap::new();
            for field in one.iter().chain(other.iter()) {
                let merged = match all.remove(field.name()) {
                    Some(known) => merged(known, field.data_type().clone()),
                    None => field.data_type().clone(),
                };
                all.insert(field.name().clone(), merged);
            }
            T::Struct(all.into_iter().map(|(name, own)| arrow::datatypes::Field::new(name, own, true)).collect())
        }
        _ => T::Utf8,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_lead_into_json() {
        let check = |text: &str, path: &str, expect: Option<&str>| {
            let value = serde_json::from_str(text).expect(text);
            assert_eq!(parse_path(path).and_then(|path| found(&value, &path)).as_deref(), expect, "{path}");
        };
        let text = r#"{"a": {"b": [1, 2, {"c": "x"}]}, "d.e": 7, "n": null}"#;
        check(text, "$.a.b[1]", Some("2"));
        check(text, "$.a.b[2].c", Some("x"));
        check(text, "$.a", Some(r#"{"b":[1,2,{"c":"x"}]}"#));
        check(text, "$['d.e']", Some("7"));
        check(text, "$.n", None);
        check(text, "a", None);
        check(r#"[{"a": 1}, {"a": 2}]"#, "$[*].a", Some("[1,2]"));
    }

    #[test]
    fn keys_are_those_that_are_written() {
        let keys = |text: &str| serde_json::from_str::<Keys>(text).ok().map(|keys| keys.0);
        assert_eq!(keys(r#"{"b": {"x": 1}, "a": [], "b": 2}"#), Some(["b", "a", "b"].map(String::from).to_vec()));
        assert_eq!(keys("{}"), Some(vec![]));
        assert_eq!((keys("[1]"), keys(r#"{"a": 1"#), keys(r#"{"a": 1} x"#), keys("null")), (None, None, None, None));
    }
}
