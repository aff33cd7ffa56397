//! Records of other libraries (`tests/golden/avro`), the functions in SQL, and a real registry at `REGISTRY_ADDRESS`.

use super::options::Options;
use super::{Reader, Writer};
use crate::connectors;
use crate::functions::json::options::Options as JsonOptions;
use crate::functions::json::to_json::to_json;
use crate::functions::records::{RecordReader, RecordWriter};
use crate::functions::registry::with_session_functions;
use crate::registry::tests::{address, subject};
use crate::registry::{Config, Definition, Kind, Registry, wire};
use arrow::array::{Array, ArrayRef, AsArray, BinaryArray, StructArray};
use arrow::datatypes::Field;
use arrow::util::pretty::pretty_format_batches;
use datafusion::execution::session_state::SessionStateBuilder;
use datafusion::prelude::SessionContext;
use headwater_proto::error::{Error, ErrorKind, Result};
use serde_json::Value;
use std::sync::Arc;

fn options(pairs: &[(&str, &str)]) -> Options {
    Options::parse("from_avro", &connectors::Options::new(pairs.iter().copied())).expect("options")
}

fn bytes(hex: &str) -> Vec<u8> {
    let pairs = hex.as_bytes().chunks(2).map(|pair| std::str::from_utf8(pair).expect("digits"));
    pairs.map(|pair| u8::from_str_radix(pair, 16).expect("digits")).collect()
}

fn golden() -> Value {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/golden/avro/cases.json");
    serde_json::from_str(&std::fs::read_to_string(path).expect("tests/golden/avro/cases.json")).expect("JSON")
}

/// The row as `to_json` writes it, which tells types apart.
fn shown(array: &ArrayRef) -> Value {
    let field = Arc::new(Field::new("v", array.data_type().clone(), true));
    let row: ArrayRef = Arc::new(StructArray::from(vec![(field, array.clone())]));
    let formats = [
        ("timestampFormat", "yyyy-MM-dd'T'HH:mm:ss.SSSSSSXXX"),
        ("timestampNTZFormat", "yyyy-MM-dd'T'HH:mm:ss.SSSSSS"),
    ];
    let text = to_json(&row, &JsonOptions::parse(formats, None).expect("formats")).expect("JSON");
    serde_json::from_str::<Value>(text.as_string::<i32>().value(0)).expect("JSON")["v"].clone()
}

/// Decimals are told from text.
fn expected(value: &Value) -> Value {
    match value {
        Value::String(text) => match text.strip_prefix("decimal:") {
            Some(number) => serde_json::from_str(number).expect("a number"),
            None => value.clone(),
        },
        Value::Array(items) => items.iter().map(expected).collect(),
        Value::Object(parts) => parts.iter().map(|(key, value)| (key.clone(), expected(value))).collect(),
        other => other.clone(),
    }
}

fn rows(rows: Vec<Option<&[u8]>>) -> ArrayRef {
    Arc::new(BinaryArray::from(rows))
}

#[test]
fn records_of_other_libraries() {
    for case in golden()["cases"].as_array().expect("cases") {
        let name = case["name"].as_str().expect("a name");
        let (writer, record) = (case["writer"].to_string(), bytes(case["bytes"].as_str().expect("bytes")));
        let reader = match case.get("reader") {
            Some(reader) => Reader::new(&writer, &options(&[("avroSchema", &reader.to_string())])),
            None => Reader::new(&writer, &options(&[])),
        };
        let read = reader.expect(name).read(&rows(vec![Some(&record)])).expect(name);
        assert_eq!(shown(&read), expected(&case["json"]), "{name}");
        if case.get("reader").is_none() {
            // And back, byte for byte.
            let written = Writer::new(&writer, &options(&[])).expect(name).write(&read).expect(name);
            assert_eq!(written.as_binary::<i32>().value(0), record, "{name}");
        }
    }
}

#[test]
fn the_wire_format_is_confluents() {
    let golden = golden();
    let confluent = &golden["confluent"];
    let record = bytes(confluent["bytes"].as_str().expect("bytes"));
    let (id, body) = wire::split(&record).expect("a header");
    assert_eq!(u64::from(id), confluent["id"].as_u64().expect("an id"));
    assert_eq!(body, bytes(golden["cases"][0]["bytes"].as_str().expect("bytes")));
}

fn session() -> SessionContext {
    SessionContext::new_with_state(with_session_functions(SessionStateBuilder::new()).build())
}

async fn sql(context: &SessionContext, text: &str) -> Result<String> {
    let run = async { context.sql(text).await?.collect().await };
    let batches = run.await.map_err(|error| {
        Error::in_text(&format!("{error:?}")).unwrap_or_else(|| Error::internal(error.strip_backtrace()))
    })?;
    let table = pretty_format_batches(&batches).expect("a table").to_string();
    // Rows without lines and heads.
    let rows = table.lines().skip(3).filter(|line| line.starts_with('|'));
    let rows = rows.map(|row| row.trim_matches(['|', ' ']).split_whitespace().collect::<Vec<_>>().join(" "));
    Ok(rows.collect::<Vec<_>>().join("; "))
}

#[tokio::test]
async fn functions_in_sql() {
    let context = session();
    let check = async |text: &str, expect: &str| {
        let found = sql(&context, text).await.unwrap_or_else(|error| error.to_string());
        assert!(found.contains(expect) && (found == expect || found.starts_with('[')), "{text}: {found}");
    };
    check("SELECT from_avro(x'06616263', '\"string\"')", "abc").await;
    check("SELECT from_avro(to_avro(v), '\"long\"') FROM (VALUES (1), (NULL)) AS t(v)", "1; ").await;
    check("SELECT from_avro(X'0202', '[\"null\",\"int\"]')", "1").await;
}

#[tokio::test]
async fn modes_and_nulls() {
    let context = session();
    let record = r#"{"type":"record","name":"R","fields":[{"name":"a","type":"long"},{"name":"b","type":"string"}]}"#;
    let values = "(VALUES (x'02026b'), (x'0206'), (NULL)) AS t(v)";
    let permissive =
        format!("SELECT from_avro(v, '{record}', map('mode', 'PERMISSIVE')) AS r, v IS NULL FROM {values}");
    let found = sql(&context, &permissive).await.expect("rows");
    assert_eq!(found, "{a: 1, b: k} | false; {a: , b: } | false; true");
    let failfast = format!("SELECT from_avro(v, '{record}') FROM {values}");
    let error = sql(&context, &failfast).await.expect_err("a bad record");
    assert_eq!((error.kind, error.class.as_str()), (ErrorKind::InvalidRequest, "MALFORMED_AVRO_MESSAGE"));
    assert!(error.message.contains("ends too soon"), "{error}");
}

#[tokio::test]
async fn mistakes_are_told_while_planning() {
    let context = session();
    for (text, class) in [
        ("SELECT from_avro(x'00', 'nonsense')", "AVRO_INCOMPATIBLE_SCHEMA"),
        ("SELECT from_avro('text', '\"int\"')", "DATATYPE_MISMATCH.UNEXPECTED_INPUT_TYPE"),
        ("SELECT from_avro(x'00', 'a-value', 'nowhere')", "SCHEMA_REGISTRY_CONFIGURATION_ERROR"),
        ("SELECT to_avro('x', '\"int\"')", "AVRO_INCOMPATIBLE_SCHEMA"),
        (
            "SELECT to_avro(named_struct('a', 1), '{\"type\":\"record\",\"name\":\"R\",\"fields\":[]}')",
            "AVRO_INCOMPATIBLE_SCHEMA",
        ),
        ("SELECT from_avro(x'00', '\"int\"', '{\"nope\":\"1\"}')", "UNSUPPORTED_FEATURE.AVRO_OPTION"),
    ] {
        let error = sql(&context, text).await.expect_err(text);
        assert_eq!(error.class, class, "{text}: {error}");
    }
}

fn registry(address: &str) -> Registry {
    let options = connectors::Options::new([("schema.registry.address", address)]);
    Registry::of(&Config::from_options(&options).expect("a configuration")).expect("a registry")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subject_evolves_under_a_query() {
    let Some(address) = address("a_subject_evolves_under_a_query") else { return };
    let (registry, subject, context) = (registry(&address), subject("evolves"), session());
    // What is written registers itself.
    let write = |columns: &str| format!("SELECT to_avro({columns}, '{subject}', '{address}') AS v");
    let old = "named_struct('id', 1, 'name', 'a')";
    let first = context.sql(&write(old)).await.expect("plan").collect().await.expect("rows");
    let planned = registry.latest(&subject).await.expect("registered");
    assert!(planned.text.contains("\"default\":null"), "{planned:?}");

    // A query that was planned by the first schema goes on reading records of the second.
    let read = |mode: &str| {
        let pairs = [
            ("schema.registry.address", address.as_str()),
            ("schema.registry.subject", subject.as_str()),
            ("avroSchemaEvolutionMode", mode),
            ("headwater.schema.id", &planned.id.to_string()),
        ];
        Reader::new(&planned.text, &options(&pairs)).expect("a reader")
    };
    let (running, restarting) = (read("none"), read("restart"));
    restarting.read(first[0].column(0)).expect("as planned");
    let new = "named_struct('id', 2, 'name', 'b', 'email', 'b@x')";
    let second = context.sql(&write(new)).await.expect("plan").collect().await.expect("rows");
    assert_ne!(
        first[0].column(0).as_binary::<i32>().value(0)[..5],
        second[0].column(0).as_binary::<i32>().value(0)[..5]
    );
    let read = running.read(second[0].column(0)).expect("resolved");
    assert_eq!(shown(&read), serde_json::json!({"id": 2, "name": "b"}));
    let error = restarting.read(second[0].column(0)).expect_err("to be planned again");
    assert_eq!((error.kind, error.class.as_str()), (ErrorKind::Transient, "UNKNOWN_FIELD_EXCEPTION.SCHEMA_EVOLVED"));

    // A query that is planned now has the new column, and reads old records too.
    let text = format!(
        "SELECT from_avro(v, '{subject}', '{address}') FROM (SELECT to_avro({old}, '{subject}', '{address}', '{}') AS v)",
        planned.text
    );
    assert_eq!(sql(&context, &text).await.expect("rows"), "{id: 1, name: a, email: }");

    // What breaks the rules is refused, with the field and the rule.
    let error = sql(&context, &write("named_struct('id', 'text')")).await.expect_err("incompatible");
    assert_eq!(error.class, "SCHEMA_REGISTRY_INCOMPATIBLE_SCHEMA", "{error}");
    assert!(error.message.contains("BACKWARD") && error.message.contains("field `id`"), "{error}");

    // Not registered, not written.
    let pairs = [
        ("schema.registry.address", address.as_str()),
        ("schema.registry.subject", subject.as_str()),
        ("auto.register.schemas", "false"),
    ];
    let ids: ArrayRef = Arc::new(arrow::array::Int64Array::from(vec![9]));
    let row: ArrayRef = Arc::new(StructArray::try_from(vec![("id", ids)]).expect("a struct"));
    let writer = Writer::new("", &options(&pairs)).expect("a writer");
    assert_eq!(writer.write(&row).expect_err("no such schema").kind, ErrorKind::NotFound);
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_records_of_a_registry() {
    let Some(address) = address("bad_records_of_a_registry") else { return };
    let (registry, subject) = (registry(&address), subject("bad"));
    let id = registry.register(&subject, &Definition::new(Kind::Avro, "\"long\"")).await.expect("registered");
    let other = subject.replace("-value", "-key");
    let proto = Definition::new(Kind::Protobuf, "syntax = \"proto3\"; message M { string s = 1; }");
    let proto = registry.register(&other, &proto).await.expect("registered");
    let record = |id: u32, body: &[u8]| [&wire::header(id)[..], body].concat();
    let good = record(id, &[4]);
    let bad = [vec![], vec![1, 2, 3], record(2_000_000_001, &[4]), record(proto, &[4]), record(id, &[])];
    let mut all: Vec<Option<&[u8]>> = vec![Some(&good), None];
    all.extend(bad.iter().map(|record| Some(record.as_slice())));
    let pairs = [("schema.registry.address", address.as_str()), ("schema.registry.subject", subject.as_str())];
    let permissive =
        Reader::new("\"long\"", &options(&[pairs[0], pairs[1], ("mode", "PERMISSIVE")])).expect("a reader");
    let read = permissive.read(&rows(all)).expect("rows");
    assert_eq!((read.len(), read.null_count(), read.as_primitive::<arrow::datatypes::Int64Type>().value(0)), (7, 6, 2));
    let failfast = Reader::new("\"long\"", &options(&pairs)).expect("a reader");
    for (record, expect) in bad.iter().zip(["0 and an id", "0 and an id", "2000000001", "Protobuf schema", "too soon"])
    {
        let error = failfast.read(&rows(vec![Some(record)])).expect_err(expect);
        assert!(error.class == "MALFORMED_AVRO_MESSAGE" && error.message.contains(expect), "{error}");
    }
}
