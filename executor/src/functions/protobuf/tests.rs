//! Messages of other libraries (`tests/golden/protobuf`), and a real registry at `REGISTRY_ADDRESS`.

use super::options::Options;
use super::{Reader, Writer, descriptor};
use crate::connectors;
use crate::functions::bind::{Argument, bind};
use crate::functions::json::options::Options as JsonOptions;
use crate::functions::json::to_json::to_json;
use crate::functions::records::{RecordReader, RecordWriter};
use crate::registry::tests::{address, subject};
use crate::registry::{Config, Definition, Kind, Registry, to_plan, wire};
use arrow::array::{Array, ArrayRef, AsArray, BinaryArray, Int64Array, StructArray};
use headwater_proto::error::ErrorKind;
use serde_json::{Value, json};
use std::sync::Arc;

const PROTO: &str = include_str!("../../../../tests/golden/protobuf/golden.proto");
const DESCRIPTORS: &[u8] = include_bytes!("../../../../tests/golden/protobuf/golden.desc");

fn options(pairs: &[(&str, &str)]) -> Options {
    Options::parse("from_protobuf", &connectors::Options::new(pairs.iter().copied())).expect("options")
}

fn golden(name: &str) -> Vec<u8> {
    let cases: Value =
        serde_json::from_str(include_str!("../../../../tests/golden/protobuf/cases.json")).expect("JSON");
    let hex = cases[name].as_str().or(cases[name]["bytes"].as_str()).expect(name);
    let pairs = hex.as_bytes().chunks(2).map(|pair| std::str::from_utf8(pair).expect("digits"));
    pairs.map(|pair| u8::from_str_radix(pair, 16).expect("digits")).collect()
}

fn rows(rows: Vec<Option<&[u8]>>) -> ArrayRef {
    Arc::new(BinaryArray::from(rows))
}

/// Without intervals, which JSON has not.
fn shown(array: &ArrayRef, row: usize) -> Value {
    let (fields, columns, nulls) = array.as_struct().clone().into_parts();
    let kept = fields.iter().zip(columns).filter(|(field, _)| field.name() != "took");
    let (fields, columns): (Vec<_>, Vec<_>) = kept.map(|(field, column)| (field.clone(), column)).unzip();
    let array: ArrayRef = Arc::new(StructArray::new(fields.into(), columns, nulls));
    let formats = [("timestampFormat", "yyyy-MM-dd'T'HH:mm:ss.SSSSSSXXX")];
    let text = to_json(&array, &JsonOptions::parse(formats, None).expect("formats")).expect("JSON");
    serde_json::from_str(text.as_string::<i32>().value(row)).expect("JSON")
}

fn read(pairs: &[(&str, &str)], record: &[u8]) -> Value {
    let reader = Reader::new("User", DESCRIPTORS, &options(pairs)).expect("a reader");
    shown(&reader.read(&rows(vec![Some(record)])).expect("a row"), 0)
}

fn full() -> Value {
    json!({
        "id": "a", "name": "", "small": -1, "large": i64::MAX, "unsigned_small": -1, "unsigned_large": -1,
        "zigzag": -300, "fixed_small": 7, "fixed_large": -7, "ratio": 0.5, "score": -0.25, "flag": true, "raw": "/wA=",
        "rank": "HIGH", "home": {"city": "Köln", "zip": 0}, "numbers": [1, 2, 3],
        "homes": [{"city": "x"}, {}], "counts": {"one": 1, "two": 2}, "by_number": {"2": {"city": "y"}},
        "seen": "1969-12-31T23:59:59.999999Z", "note": {"value": "hello"}, "phone": 5,
    })
}

#[test]
fn messages_of_other_libraries() {
    assert_eq!(read(&[], &golden("full")), full());
    let mut other = full();
    other["unsigned_small"] = json!(u32::MAX);
    other["unsigned_large"] = json!(u64::MAX);
    other["rank"] = json!(5);
    other["note"] = json!("hello");
    let pairs =
        [("upcast.unsigned.ints", "true"), ("enums.as.ints", "true"), ("unwrap.primitive.wrapper.types", "true")];
    assert_eq!(read(&pairs, &golden("full")), other);
    // Nothing was sent: what has presence is null; the rest is, too, unless it is asked for.
    assert_eq!(read(&[], &golden("empty")), json!({"numbers": [], "homes": [], "counts": {}, "by_number": {}}));
    let found = read(&[("emit.default.values", "true")], &golden("empty"));
    assert_eq!(
        (&found["id"], &found["small"], &found["rank"], &found["flag"]),
        (&json!(""), &json!(0), &json!("LOW"), &json!(false))
    );
    assert!(
        ["name", "home", "seen", "email", "phone", "note"].iter().all(|name| found.get(*name).is_none()),
        "{found}"
    );
}

#[test]
fn what_was_read_is_written_the_same() {
    for pairs in [&[][..], &[("upcast.unsigned.ints", "true"), ("unwrap.primitive.wrapper.types", "true")]] {
        let reader = Reader::new("golden.User", DESCRIPTORS, &options(pairs)).expect("a reader");
        let writer = Writer::new("golden.User", DESCRIPTORS, &options(pairs)).expect("a writer");
        let read = reader.read(&rows(vec![Some(&golden("full")), None, Some(&golden("empty"))])).expect("rows");
        assert!(read.is_null(1));
        writer.check(read.data_type()).expect("its own type");
        let written = writer.write(&read).expect("bytes");
        assert!(written.is_null(1));
        // The order of a map's entries is anybody's; what they are is not.
        let again = reader.read(&written).expect("rows");
        assert_eq!(&again, &read);
        assert_eq!(written.as_binary::<i32>().value(0).len(), golden("full").len());
        let took = again.as_struct().column_by_name("took").expect("a column").clone();
        assert_eq!(took.as_primitive::<arrow::datatypes::DurationMicrosecondType>().value(0), -1_500_000);
    }
}

#[test]
fn bad_messages_by_mode() {
    let record = golden("full");
    let cut = &record[..record.len() - 1];
    let failfast = Reader::new("User", DESCRIPTORS, &options(&[])).expect("a reader");
    let error = failfast.read(&rows(vec![Some(cut)])).expect_err("cut");
    assert_eq!((error.kind, error.class.as_str()), (ErrorKind::InvalidRequest, "MALFORMED_PROTOBUF_MESSAGE"));
    let permissive = Reader::new("User", DESCRIPTORS, &options(&[("mode", "PERMISSIVE")])).expect("a reader");
    let read = permissive.read(&rows(vec![Some(cut), None])).expect("rows");
    assert_eq!((shown(&read, 0), read.is_null(0), read.is_null(1)), (json!({}), false, true));
}

#[test]
fn recursion_is_bounded() {
    let text = "syntax = \"proto3\"; message Node { int32 n = 1; Node next = 2; }";
    let bytes = descriptor::compile(text, &[]).expect("compiles");
    let error = Reader::new("Node", &bytes, &options(&[])).expect_err("recursive").to_string();
    assert!(error.contains("RECURSIVE_PROTOBUF_SCHEMA") && error.contains("recursive.fields.max.depth"), "{error}");
    for (depth, expect) in [("1", "struct<n:int>"), ("2", "struct<n:int,next:struct<n:int>>")] {
        let reader = Reader::new("Node", &bytes, &options(&[("recursive.fields.max.depth", depth)])).expect(depth);
        assert_eq!(crate::functions::ddl::simple_name(reader.data_type()), expect);
    }
}

#[test]
fn columns_must_fit() {
    let text = "syntax = \"proto2\"; message M { required int32 a = 1; optional string b = 2; enum E { X = 1; } optional E e = 3; }";
    let bytes = descriptor::compile(text, &[]).expect("compiles");
    let writer = Writer::new("M", &bytes, &options(&[])).expect("a writer");
    let check = |columns: &str, expect: &str| {
        let schema = crate::functions::ddl::parse_ddl(columns).expect(columns);
        let found = writer.check(&arrow::datatypes::DataType::Struct(schema.fields().clone()));
        match expect {
            "" => found.expect(columns),
            expect => assert!(found.clone().expect_err(columns).message.contains(expect), "{found:?}"),
        }
    };
    check("A INT, e STRING", "");
    check("a INT, c INT", "column `c` has no field");
    check("b STRING", "required field `a` has no column");
    check("a BIGINT", "");
    check("a STRING", "field `a`: STRING is not written");
}

#[test]
fn numbers_must_fit() {
    let bytes =
        descriptor::compile("syntax = \"proto3\"; message M { int32 i = 1; uint32 u = 2; repeated int32 l = 3; }", &[]);
    let writer = Writer::new("M", &bytes.expect("compiles"), &options(&[])).expect("a writer");
    let check = |name: &str, number: i64, expect: Result<&[u8], &str>| {
        let values: ArrayRef = Arc::new(Int64Array::from(vec![number]));
        let row: ArrayRef = Arc::new(StructArray::try_from(vec![(name, values)]).expect("a struct"));
        match (writer.write(&row), expect) {
            (Ok(found), Ok(bytes)) => assert_eq!(found.as_binary::<i32>().value(0), bytes),
            (Err(found), Err(expect)) => assert!(found.message.contains(expect), "{found}"),
            (found, _) => panic!("{name} {number}: {found:?}"),
        }
    };
    check("i", 1, Ok(&[8, 1]));
    check("u", u32::MAX.into(), Ok(&[16, 0xff, 0xff, 0xff, 0xff, 0x0f]));
    check("i", u32::MAX.into(), Err("field `i`"));
    check("i", 1 << 40, Err("does not fit into 32 bits"));
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_of_a_registry() {
    let Some(address) = address("messages_of_a_registry") else { return };
    let subject = subject("proto");
    let pairs = |more: &[(&str, &str)]| {
        let mut pairs = vec![
            ("schema.registry.address".to_string(), address.clone()),
            ("schema.registry.subject".to_string(), subject.clone()),
        ];
        pairs.extend(more.iter().map(|(key, value)| (key.to_string(), value.to_string())));
        pairs
    };
    let none = connectors::Options::default();
    let bound = async |function: &str, more: &[(&str, &str)]| {
        let arguments = [Argument::Text("User".into()), Argument::Pairs(pairs(more))];
        let found = bind(function, &arguments, &none).await.expect(function).expect("not bound yet");
        let [Argument::Text(name), Argument::Bytes(bytes), Argument::Text(text)] = found.as_slice() else {
            panic!("{found:?}")
        };
        let options = crate::registry::from_plan(text).expect("options");
        assert_eq!(to_plan(&options), *text);
        (name.clone(), bytes.clone(), Options::parse(function, &options).expect("options"))
    };
    // The text is registered by who writes.
    let (name, bytes, with_text) = bound("to_protobuf", &[("schema.registry.schema", PROTO)]).await;
    let reader = Reader::new(&name, &bytes, &options(&[])).expect("a reader");
    let read = reader.read(&rows(vec![Some(&golden("full"))])).expect("a row");
    let written = Writer::new(&name, &bytes, &with_text).expect("a writer").write(&read).expect("bytes");
    let record = written.as_binary::<i32>().value(0);
    // As Confluent's own serializer frames it, but for the id.
    assert_eq!(record[5..7], golden("confluent")[5..7]);
    let (id, _) = wire::split(record).expect("a header");

    // Now the subject is there.
    let (name, bytes, by_subject) = bound("from_protobuf", &[("mode", "PERMISSIVE")]).await;
    assert_eq!(by_subject.schema_id, Some(id));
    let reader = Reader::new(&name, &bytes, &by_subject).expect("a reader");
    assert_eq!(&reader.read(&written).expect("rows"), &read);

    // A newer schema is read by the older one; another message, or an unknown id, is a bad record.
    let config = Config::from_options(&connectors::Options::new(pairs(&[]))).expect("a configuration");
    let registry = Registry::of(&config).expect("a registry");
    let newer = PROTO.replace("message Other {", "message Added { string x = 1; }\nmessage Other {");
    let newer = newer.replace("string id = 1;", "string id = 1; string more = 30;");
    let newer = registry.register(&subject, &Definition::new(Kind::Protobuf, newer)).await.expect("compatible");
    let frame = |id: u32, indexes: &[usize], body: &[u8]| {
        let mut record = wire::header(id).to_vec();
        wire::push_indexes(indexes, &mut record);
        record.extend_from_slice(body);
        record
    };
    let full_message = golden("full");
    let good = frame(newer, &[2], &full_message);
    let bad = [
        frame(id, &[0], &golden("other")),
        frame(newer, &[1], &full_message),
        frame(2_000_000_002, &[1], &full_message),
    ];
    let mut all: Vec<Option<&[u8]>> = vec![Some(&good)];
    all.extend(bad.iter().map(|record| Some(record.as_slice())));
    let found = reader.read(&rows(all)).expect("rows");
    assert_eq!(found.slice(0, 1).to_data(), read.to_data());
    for row in 1..found.len() {
        assert_eq!(shown(&found, row), json!({}), "{row}");
    }
    let (name, bytes, restarting) = bound("from_protobuf", &[]).await;
    assert_eq!(restarting.schema_id, Some(newer));
    Reader::new(&name, &bytes, &restarting).expect("a reader").read(&written).expect("an older record");
}
