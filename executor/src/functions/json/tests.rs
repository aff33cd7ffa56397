//! What `from_json` makes of a text, written as `to_json` with nulls writes it.

use super::from_json::{FromJson, from_json};
use super::options::Options;
use super::to_json::{ToJson, to_json};
use crate::functions::ddl;
use arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, BinaryViewArray, LargeBinaryArray, LargeStringArray, StringArray,
    StringViewArray, StructArray,
};
use arrow::datatypes::{DataType, Field, Float64Type, Int32Type};
use datafusion::common::ScalarValue;
use datafusion::logical_expr::{ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl};
use datafusion::prelude::SessionContext;
use headwater_proto::error::Error;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::{Map, Value, json};
use std::sync::Arc;

fn options(pairs: &[(&str, &str)]) -> Options {
    Options::parse(pairs.iter().copied(), None).expect("options")
}

/// Reads one text and shows it, or the class of the error.
fn read(schema: &str, pairs: &[(&str, &str)], text: &str) -> String {
    let texts: ArrayRef = Arc::new(StringArray::from(vec![text]));
    let data_type = ddl::as_nullable(&ddl::parse_schema(schema).expect(schema));
    match from_json(&texts, &data_type, &options(pairs)) {
        Ok(array) => show(&array).remove(0),
        Err(e) => Error::class_in(&e.to_string()).map(|(class, _)| class.to_string()).expect("a class"),
    }
}

fn show(array: &ArrayRef) -> Vec<String> {
    let texts =
        to_json(array, &options(&[("ignoreNullFields", "false"), ("timestampFormat", "yyyy-MM-dd HH:mm:ss.SSSSSS")]));
    let texts = texts.expect("shown");
    texts.as_string::<i32>().iter().map(|text| text.unwrap_or("NULL").to_string()).collect()
}

#[track_caller]
fn check(schema: &str, text: &str, expect: &str) {
    assert_eq!(read(schema, &[], text), expect, "{schema} of {text}");
}

#[track_caller]
fn check_with(schema: &str, pairs: &[(&str, &str)], text: &str, expect: &str) {
    assert_eq!(read(schema, pairs, text), expect, "{schema} of {text} with {pairs:?}");
}

#[test]
fn objects() {
    check("a INT, b STRING", r#"{"a":1,"b":"x"}"#, r#"{"a":1,"b":"x"}"#);
    check("a INT, b STRING", r#"{"b":"x","a":1}"#, r#"{"a":1,"b":"x"}"#);
    check("a INT, b STRING", " \t\r\n{ \"a\" : 1 , \"b\" : \"x\" } ", r#"{"a":1,"b":"x"}"#);
    check("a INT, b STRING", r#"{"a":1}"#, r#"{"a":1,"b":null}"#);
    check("a INT, b STRING", r#"{}"#, r#"{"a":null,"b":null}"#);
    check("a INT", r#"{"a":null}"#, r#"{"a":null}"#);
    check("a INT", r#"{"A":1}"#, r#"{"a":null}"#);
    check("a INT", r#"{"x":{"a":[1,{"b":2}],"c":"}"},"a":1,"y":[]}"#, r#"{"a":1}"#);
    check("a INT", r#"{"a":1} anything } after"#, r#"{"a":1}"#);
    check("`a b` INT", r#"{"a b":1}"#, r#"{"a b":1}"#);
    check("`a\"b` INT", r#"{"a\"b":1}"#, r#"{"a\"b":1}"#);
    check("é INT, ab INT", r#"{"\u00e9":1,"a\u0062":2}"#, r#"{"é":1,"ab":2}"#);
    check("s STRUCT<>", r#"{"s":{"a":1}}"#, r#"{"s":{}}"#);
}

#[test]
fn no_record() {
    check("a INT", "", "NULL");
    check("a INT", "  \n", "NULL");
    check("ARRAY<INT>", " ", "NULL");
    check("a INT", "null", r#"{"a":null}"#);
    let texts: ArrayRef = Arc::new(StringArray::from(vec![None, Some("{\"a\":1}"), None]));
    let data_type = ddl::parse_schema("a INT").expect("schema");
    assert_eq!(show(&from_json(&texts, &data_type, &options(&[])).expect("read")), ["NULL", "{\"a\":1}", "NULL"]);
}

#[test]
fn keys_that_repeat() {
    check("a INT", r#"{"a":1,"a":2}"#, r#"{"a":2}"#);
    check("a INT", r#"{"a":1,"a":null}"#, r#"{"a":null}"#);
    check("a INT", r#"{"a":1,"a":"x"}"#, r#"{"a":1}"#);
    check("a INT", r#"{"a":"x","a":2}"#, r#"{"a":2}"#);
    check("a INT, b STRING", r#"{"a":1,"b":"y","a":2,"a":"x","a":[3],"b":"z"}"#, r#"{"a":2,"b":"z"}"#);
    check("a ARRAY<INT>", r#"{"a":[1,2],"a":[3,"x"]}"#, r#"{"a":[1,2]}"#);
    check("a STRING, b INT", r#"{"a":"first","b":1,"a":"x"#, r#"{"a":null,"b":null}"#);
    check("a STRUCT<b: INT, c: INT>", r#"{"a":{"b":1,"b":"x"},"a":{"c":2,"c":[]}}"#, r#"{"a":{"b":null,"c":2}}"#);
    check("a STRUCT<b: INT>", r#"{"a":{"b":1},"a":2}"#, r#"{"a":{"b":1}}"#);
    check("a STRUCT<b: INT>", r#"{"a":{"b":1},"a":null}"#, r#"{"a":null}"#);
    check("a ARRAY<STRUCT<b: INT>>", r#"{"a":[{"b":1}],"a":[{"b":2,"b":3}],"a":[4]}"#, r#"{"a":[{"b":3}]}"#);
    check("a MAP<STRING, INT>", r#"{"a":{"x":1},"a":{"y":2},"a":{"z":"w"}}"#, r#"{"a":{"y":2}}"#);
}

/// A record takes no longer than its length warrants, whatever is in it.
#[test]
fn many_keys_that_repeat() {
    let began = std::time::Instant::now();
    let wrong = r#","a":"""#.repeat(140_000);
    check("a INT", &format!(r#"{{"a":1{wrong}}}"#), r#"{"a":1}"#);
    check("a INT", &format!(r#"{{"a":1{wrong},"a":2}}"#), r#"{"a":2}"#);
    let array = format!("[{}1]", "1,".repeat(10_000));
    check("a ARRAY<INT>", &format!(r#"{{"a":{array}{wrong}}}"#), &format!(r#"{{"a":{array}}}"#));
    // Structs within structs, each named twice.
    let (mut schema, mut text, mut expect) = ("a: INT".to_string(), "1".to_string(), "1".to_string());
    for _ in 0..32 {
        schema = format!("a: STRUCT<{schema}>");
        text = format!(r#"{{"a":null,"a":{text}}}"#);
        expect = format!(r#"{{"a":{expect}}}"#);
    }
    let (text, expect) = (format!(r#"{{"a":{text}}}"#), format!(r#"{{"a":{expect}}}"#));
    check(&schema.replacen("a: ", "a ", 1), &text, &expect);
    assert!(began.elapsed().as_secs() < 30, "{:?}", began.elapsed());
}

#[test]
fn every_type() {
    check("a BOOLEAN, b BOOLEAN", r#"{"a":true,"b":false}"#, r#"{"a":true,"b":false}"#);
    check("a TINYINT, b TINYINT", r#"{"a":-128,"b":200}"#, r#"{"a":-128,"b":-56}"#);
    check("a SMALLINT", r#"{"a":-32768}"#, r#"{"a":-32768}"#);
    check("a INT", r#"{"a":2147483647}"#, r#"{"a":2147483647}"#);
    check(
        "a BIGINT, b BIGINT",
        r#"{"a":9223372036854775807,"b":-9223372036854775808}"#,
        r#"{"a":9223372036854775807,"b":-9223372036854775808}"#,
    );
    check("a DOUBLE, b DOUBLE", r#"{"a":1,"b":-2.5e-3}"#, r#"{"a":1.0,"b":-0.0025}"#);
    check("a FLOAT", r#"{"a":0.1}"#, r#"{"a":0.1}"#);
    check("a DOUBLE", r#"{"a":1e400}"#, r#"{"a":"Infinity"}"#);
    check("a DECIMAL(10,2), b DECIMAL(10,2)", r#"{"a":1.005,"b":"1,234.5"}"#, r#"{"a":1.01,"b":1234.50}"#);
    check("a DECIMAL(38,18)", r#"{"a":1e-18}"#, r#"{"a":0.000000000000000001}"#);
    check("a DATE, b DATE", r#"{"a":"2024-02-29","b":"3"}"#, r#"{"a":"2024-02-29","b":"1970-01-04"}"#);
    check("a TIMESTAMP", r#"{"a":"2024-02-29T12:13:14.123456+01:00"}"#, r#"{"a":"2024-02-29 11:13:14.123456"}"#);
    check("a TIMESTAMP", r#"{"a":"2000-01-01T00:00:00GMT+01:00"}"#, r#"{"a":"1999-12-31 23:00:00.000000"}"#);
    check("a TIMESTAMP", r#"{"a":86400}"#, r#"{"a":"1970-01-02 00:00:00.000000"}"#);
    check("a TIMESTAMP_NTZ", r#"{"a":"2024-02-29 12:13:14"}"#, r#"{"a":"2024-02-29T12:13:14.000"}"#);
    check("a BINARY", r#"{"a":"AP8="}"#, r#"{"a":"AP8="}"#);
    check("a VOID, b INT", r#"{"a":{"x":1},"b":1}"#, r#"{"a":null,"b":1}"#);
    check("a ARRAY<INT>", r#"{"a":[ 1 , null, 3 ]}"#, r#"{"a":[1,null,3]}"#);
    check("a ARRAY<ARRAY<STRING>>", r#"{"a":[["x"],[],null]}"#, r#"{"a":[["x"],[],null]}"#);
    check("a MAP<STRING, INT>", r#"{"a":{"x":1, "y" : null}}"#, r#"{"a":{"x":1,"y":null}}"#);
    check("a MAP<STRING, INT>, b INT", r#"{"a":{},"b":2}"#, r#"{"a":{},"b":2}"#);
    check("a STRUCT<b: STRUCT<c: INT>>", r#"{"a":{"b":{"c":1}}}"#, r#"{"a":{"b":{"c":1}}}"#);
    check("a STRUCT<b: INT>", r#"{"a":null}"#, r#"{"a":null}"#);
}

#[test]
fn text_fields_take_anything() {
    check("a STRING", r#"{"a":1.50}"#, r#"{"a":"1.50"}"#);
    check("a STRING", r#"{"a":-0}"#, r#"{"a":"-0"}"#);
    check("a STRING", r#"{"a":true}"#, r#"{"a":"true"}"#);
    check("a STRING", r#"{"a":null}"#, r#"{"a":null}"#);
    check("a STRING", r#"{"a":{"b" : [1, "x y\" z"]}}"#, r#"{"a":"{\"b\":[1,\"x y\\\" z\"]}"}"#);
    check("a STRING, b INT", r#"{"a":[1,2],"b":3}"#, r#"{"a":"[1,2]","b":3}"#);
    check("a STRING", r#"{"a":NaN}"#, r#"{"a":"NaN"}"#);
    check("a STRING", r#"{"a":[1,}"#, r#"{"a":null}"#);
}

#[test]
fn escapes() {
    check("a STRING", r#"{"a":"\"\\\/\b\f\n\r\t"}"#, r#"{"a":"\"\\/\b\f\n\r\t"}"#);
    check("a STRING", r#"{"a":"x\u0041\u00e9\u20ac"}"#, r#"{"a":"xAé€"}"#);
    check("a STRING", r#"{"a":"\uD83D\uDE00!"}"#, r#"{"a":"😀!"}"#);
    check("a STRING", r#"{"a":"\uD83D!"}"#, r#"{"a":"?!"}"#);
    check("a STRING", r#"{"a":"\uDE00\uD83D"}"#, r#"{"a":"??"}"#);
    check("a STRING", r#"{"a":"\uD83D\u0041"}"#, r#"{"a":"?A"}"#);
    check("a STRING", r#"{"a":"\uD83D\uD83D\uDE00"}"#, r#"{"a":"?😀"}"#);
    check("a STRING", r#"{"a":"\u12"}"#, r#"{"a":null}"#);
    check("a STRING", r#"{"a":"\u12g4"}"#, r#"{"a":null}"#);
    check("a STRING", r#"{"a":"\x"}"#, r#"{"a":null}"#);
    check("a STRING", r#"{"a":"é😀 plain"}"#, r#"{"a":"é😀 plain"}"#);
    check("a STRING", "{\"a\":\"tab\there\"}", r#"{"a":null}"#);
    check("a STRING", "{\"a\":\"\u{7f}\"}", "{\"a\":\"\u{7f}\"}");
    check("a STRING", r#"{"a":"it\'s"}"#, r#"{"a":"it's"}"#);
}

/// A kind of malformation in each mode: what PERMISSIVE leaves of fields `a` and `b`, with the record in the corrupt
/// column; FAILFAST fails; a record that is good has no corrupt text.
#[test]
fn modes() {
    const SCHEMA: &str = "a INT, _corrupt_record STRING, b STRING, l ARRAY<INT>";
    #[track_caller]
    fn bad(text: &str, a: Value, b: Value, l: Value) {
        let expect = json!({"a": a, "_corrupt_record": text, "b": b, "l": l}).to_string();
        check_with(SCHEMA, &[], text, &expect);
        check_with(SCHEMA, &[("mode", "permissive")], text, &expect);
        let class = if text.trim_start().starts_with('[') {
            "MALFORMED_RECORD_IN_PARSING.CANNOT_PARSE_JSON_ARRAYS_AS_STRUCTS"
        } else {
            "MALFORMED_RECORD_IN_PARSING.WITHOUT_SUGGESTION"
        };
        check_with(SCHEMA, &[("mode", "FAILFAST")], text, class);
        // Without the corrupt column the rest is the same.
        let expect = json!({"a": a, "b": b, "l": l}).to_string();
        check_with("a INT, b STRING, l ARRAY<INT>", &[], text, &expect);
    }
    let null = Value::Null;
    let partial = |text: &str, a: Value, l: Value| bad(text, a, json!("x"), l);
    let malformed = |text: &str| bad(text, Value::Null, Value::Null, Value::Null);

    partial(r#"{"a":"1","b":"x"}"#, null.clone(), null.clone());
    partial(r#"{"a":"","b":"x"}"#, null.clone(), null.clone());
    partial(r#"{"a":1.0,"b":"x"}"#, null.clone(), null.clone());
    partial(r#"{"a":2147483648,"b":"x"}"#, null.clone(), null.clone());
    partial(r#"{"a":99999999999999999999999999,"b":"x"}"#, null.clone(), null.clone());
    partial(r#"{"a":true,"b":"x","l":[1]}"#, null.clone(), json!([1]));
    partial(r#"{"a":{"c":[]},"b":"x"}"#, null.clone(), null.clone());
    partial(r#"{"a":[1],"b":"x"}"#, null.clone(), null.clone());
    partial(r#"{"a":NaN,"b":"x"}"#, null.clone(), null.clone());
    partial(r#"{"a":1,"l":[1,"y",3],"b":"x"}"#, json!(1), null.clone());
    partial(r#"{"a":1,"l":{"0":1},"b":"x"}"#, json!(1), null.clone());
    partial(r#"{"l":3,"a":1,"b":"x"}"#, json!(1), null.clone());

    malformed("null");
    malformed("1");
    malformed("\"text\"");
    malformed("[]");
    malformed(r#"[{"a":1,"b":"x"}]"#);
    malformed("xyz");
    malformed("{");
    malformed(r#"{"a":1,"b":"x""#);
    malformed(r#"{"a":1,"b":"x"#);
    malformed(r#"{"b":"x","a":1,}"#);
    malformed(r#"{"b":"x" "a":1}"#);
    malformed(r#"{"b":"x","a" 1}"#);
    malformed(r#"{"b":"x","a":}"#);
    malformed(r#"{"b":"x",,"a":1}"#);
    malformed(r#"{"b":"x","a":01}"#);
    malformed(r#"{"b":"x","a":-}"#);
    malformed(r#"{"b":"x","a":+1}"#);
    malformed(r#"{"b":"x","a":1.}"#);
    malformed(r#"{"b":"x","a":.5}"#);
    malformed(r#"{"b":"x","a":1e}"#);
    malformed(r#"{"b":"x","a":1x}"#);
    malformed(r#"{"b":"x","a":nul}"#);
    malformed(r#"{"b":"x","a":True}"#);
    malformed(r#"{"b":"x","l":[1,]}"#);
    malformed(r#"{"b":"x","l":[1 2]}"#);
    malformed(r#"{"b":"x","l":[1}"#);
    malformed(r#"{"b":"x","skipped":[1}"#);
    malformed(r#"{"b":"x","skipped":{"c" 1}}"#);
    malformed(r#"{"b":"x","skipped":bad}"#);
    malformed(r#"{b:"x"}"#);
    malformed(r#"{"b":"x"/*c*/}"#);

    check_with(SCHEMA, &[], r#"{"a":1,"b":"x","l":[]}"#, r#"{"a":1,"_corrupt_record":null,"b":"x","l":[]}"#);
    check_with(SCHEMA, &[("mode", "FAILFAST")], r#"{"a":1}"#, r#"{"a":1,"_corrupt_record":null,"b":null,"l":null}"#);
    check_with(SCHEMA, &[("mode", "FAILFAST")], "", "NULL");
    // The column is not one of the record's own.
    check_with(SCHEMA, &[], r#"{"_corrupt_record":"mine"}"#, r#"{"a":null,"_corrupt_record":null,"b":null,"l":null}"#);
    check_with("a INT, bad STRING", &[("columnNameOfCorruptRecord", "bad")], "x", r#"{"a":null,"bad":"x"}"#);
    check_with("a INT, _corrupt_record INT", &[], "x", "INVALID_CORRUPT_RECORD_TYPE");
}

#[test]
fn parts_that_are_bad_inside() {
    check("s STRUCT<a: INT, b: INT>, c INT", r#"{"s":{"a":"x","b":1},"c":2}"#, r#"{"s":{"a":null,"b":1},"c":2}"#);
    check("l ARRAY<STRUCT<a: INT>>", r#"{"l":[{"a":"x"},{"a":1}]}"#, r#"{"l":[{"a":null},{"a":1}]}"#);
    check("l ARRAY<STRUCT<a: INT>>", r#"{"l":[{"a":1},2]}"#, r#"{"l":null}"#);
    check("l ARRAY<ARRAY<INT>>, c INT", r#"{"l":[[1],["x"],[[2]]],"c":2}"#, r#"{"l":null,"c":2}"#);
    check("m MAP<STRING, INT>, c STRING", r#"{"m":{"k1":1,"k2":"A","k3":3},"c":"abc"}"#, r#"{"m":null,"c":"abc"}"#);
    check("m MAP<STRING, STRUCT<a: INT>>", r#"{"m":{"k":{"a":"x"}}}"#, r#"{"m":{"k":{"a":null}}}"#);
}

#[test]
fn arrays_and_maps_at_the_top() {
    check("ARRAY<INT>", "[1,2]", "[1,2]");
    check("ARRAY<INT>", r#"["a"]"#, "NULL");
    check("ARRAY<INT>", "[1", "NULL");
    check("ARRAY<INT>", "{}", "NULL");
    check("ARRAY<INT>", "null", "NULL");
    check("ARRAY<STRUCT<a: INT>>", r#"[{"a":1},{"a":"x"},null]"#, r#"[{"a":1},{"a":null},null]"#);
    check("ARRAY<STRUCT<a: INT>>", r#"{"a":1}"#, r#"[{"a":1}]"#);
    check("ARRAY<STRUCT<a: INT>>", r#"{"a":1"#, "NULL");
    check("MAP<STRING, INT>", r#"{"a":1,"b":2}"#, r#"{"a":1,"b":2}"#);
    check("MAP<STRING, INT>", r#"{"a":1,"b":"x"}"#, "NULL");
    check("MAP<STRING, STRING>", r#"{"a":1,"b":{"c":2}}"#, r#"{"a":"1","b":"{\"c\":2}"}"#);
    check("MAP<STRING, INT>", "[]", "NULL");
    for text in ["[1", "null", "{}", "[true]"] {
        check_with("ARRAY<INT>", &[("mode", "FAILFAST")], text, "MALFORMED_RECORD_IN_PARSING.WITHOUT_SUGGESTION");
    }
    check("INT", "1", "DATATYPE_MISMATCH.INVALID_JSON_SCHEMA");
    check("MAP<INT, INT>", "{}", "DATATYPE_MISMATCH.INVALID_JSON_MAP_KEY_TYPE");
    check("a INTERVAL", "{}", "DATATYPE_MISMATCH.INVALID_JSON_SCHEMA");
}

#[test]
fn lenient_options() {
    check("a STRING", r#"{'a':'say "x"'}"#, r#"{"a":"say \"x\""}"#);
    check_with("a STRING", &[("allowSingleQuotes", "false")], "{'a':'x'}", r#"{"a":null}"#);
    check_with("a INT, b INT", &[("allowUnquotedFieldNames", "true")], "{a:1, x$:3, \"b\" :2}", r#"{"a":1,"b":2}"#);
    check_with(
        "a INT, b DOUBLE",
        &[("allowNumericLeadingZeros", "true")],
        r#"{"a":007,"b":-00.5}"#,
        r#"{"a":7,"b":-0.5}"#,
    );
    check(
        "a DOUBLE, b DOUBLE, c FLOAT",
        r#"{"a":NaN,"b":-Infinity,"c":+INF}"#,
        r#"{"a":"NaN","b":"-Infinity","c":"Infinity"}"#,
    );
    check("a DOUBLE, b DOUBLE", r#"{"a":"NaN","b":"-INF"}"#, r#"{"a":"NaN","b":"-Infinity"}"#);
    check("a DOUBLE, b INT", r#"{"a":"1.5","b":1}"#, r#"{"a":null,"b":1}"#);
    check_with(
        "a DOUBLE, b INT",
        &[("allowNonNumericNumbers", "false")],
        r#"{"a":"NaN","b":1}"#,
        r#"{"a":null,"b":1}"#,
    );
    check_with(
        "a DOUBLE, b INT",
        &[("allowNonNumericNumbers", "false")],
        r#"{"a":NaN,"b":1}"#,
        r#"{"a":null,"b":null}"#,
    );
    check_with("a STRING", &[("allowBackslashEscapingAnyCharacter", "true")], r#"{"a":"\x\é"}"#, r#"{"a":"xé"}"#);
    check_with("a INT", &[("allowComments", "true")], "/* x */ { // y\n \"a\" /**/ : 1 /* */ }", r#"{"a":1}"#);
    check_with("a INT", &[("allowComments", "true")], "{\"a\":1 /* }", r#"{"a":null}"#);
    check_with("a STRING", &[("allowUnquotedControlChars", "true")], "{\"a\":\"x\ty\"}", r#"{"a":"x\ty"}"#);
    check_with("a STRING", &[("maxStringLen", "3")], r#"{"a":"1234"}"#, r#"{"a":null}"#);
    check_with("a STRING", &[("maxStringLen", "3")], r#"{"a":"123"}"#, r#"{"a":"123"}"#);
    check_with("a DOUBLE", &[("maxNumLen", "3")], r#"{"a":1234}"#, r#"{"a":null}"#);
    check_with("a INT", &[("noSuchOption", "1"), ("multiLine", "true"), ("lineSep", "\n")], r#"{"a":1}"#, r#"{"a":1}"#);
}

#[test]
fn date_and_time_options() {
    let format = [("timestampFormat", "dd/MM/yyyy HH:mm"), ("dateFormat", "dd.MM.yyyy")];
    check_with(
        "a TIMESTAMP, b DATE",
        &format,
        r#"{"a":"03/02/2024 10:11","b":"04.05.2024"}"#,
        r#"{"a":"2024-02-03 10:11:00.000000","b":"2024-05-04"}"#,
    );
    check_with(
        "a TIMESTAMP, b DATE",
        &format,
        r#"{"a":"2024-02-03 10:11:00","b":"2024-05-04"}"#,
        r#"{"a":null,"b":null}"#,
    );
    check_with(
        "a TIMESTAMP",
        &[format[0], ("enableDateTimeParsingFallback", "true")],
        r#"{"a":"2024-02-03 10:11:00"}"#,
        r#"{"a":"2024-02-03 10:11:00.000000"}"#,
    );
    check_with(
        "a TIMESTAMP",
        &[("timeZone", "Asia/Kolkata")],
        r#"{"a":"2024-02-03 10:11:00"}"#,
        r#"{"a":"2024-02-03 04:41:00.000000"}"#,
    );
    check_with(
        "a TIMESTAMP_NTZ",
        &[("timestampNTZFormat", "yyyyMMddHHmm")],
        r#"{"a":"202402031011"}"#,
        r#"{"a":"2024-02-03T10:11:00.000"}"#,
    );
    check(
        "a TIMESTAMP, b DATE, c TIMESTAMP_NTZ",
        r#"{"a":"soon","b":"later","c":"2024-01-01T00:00:00Z"}"#,
        r#"{"a":null,"b":null,"c":null}"#,
    );
}

#[test]
fn nesting_is_limited_not_recursive() {
    let nested = |depth: usize| format!("{{\"x\":{}1{},\"a\":1}}", "[".repeat(depth), "]".repeat(depth));
    check("a INT", &nested(999), r#"{"a":1}"#);
    check("a INT", &nested(1000), r#"{"a":null}"#);
    check("a INT", &"[{\"x\":".repeat(200_000), r#"{"a":null}"#);
    check_with("a INT", &[("maxNestingDepth", "10000000")], &nested(1_000_000), r#"{"a":1}"#);
    let schema = format!("a {}INT{}", "ARRAY<".repeat(50), ">".repeat(50));
    let text = format!("{{\"a\":{}1{}}}", "[".repeat(50), "]".repeat(50));
    check(&schema, &text, &text);
    check_with(&schema, &[("maxNestingDepth", "50")], &text, r#"{"a":null}"#);
}

/// A malformed record between good ones leaves no trace in any kind of column.
#[test]
fn malformed_records_are_cut_back() {
    let schema = "a STRING, b BOOLEAN, c TINYINT, d SMALLINT, e INT, f BIGINT, g FLOAT, h DOUBLE, i DECIMAL(5,1), \
                  j DATE, k TIMESTAMP, l BINARY, m ARRAY<STRUCT<x: STRING>>, n MAP<STRING, ARRAY<INT>>, o STRUCT<p: STRING>, q VOID";
    let good = r#"{"a":"s","b":true,"c":1,"d":2,"e":3,"f":4,"g":5.0,"h":6.0,"i":7.5,"j":"2024-01-01","k":"2024-01-01 00:00:00.000000","l":"AQ==","m":[{"x":"y"}],"n":{"k":[1,2]},"o":{"p":"z"},"q":null}"#;
    let nulls = "{".to_string()
        + &(b'a'..=b'q')
            .filter(|c| *c != b'p')
            .map(|c| format!("\"{}\":null", c as char))
            .collect::<Vec<_>>()
            .join(",")
        + "}";
    let data_type = ddl::as_nullable(&ddl::parse_schema(schema).expect("schema"));
    let mut texts = Vec::new();
    let mut expect = Vec::new();
    for end in 1..good.len() {
        texts.push(good);
        expect.push(good.to_string());
        texts.push(&good[..end]);
        expect.push(nulls.clone());
    }
    texts.push(good);
    expect.push(good.to_string());
    let array: ArrayRef = Arc::new(StringArray::from(texts));
    let read = from_json(&array, &data_type, &options(&[])).expect("read");
    read.to_data().validate_full().expect("valid arrays");
    assert_eq!(show(&read), expect);
}

#[test]
fn every_input_type_and_bad_utf8() {
    let rows: Vec<Option<&[u8]>> =
        vec![Some(b"{\"a\":\"x\"}"), None, Some("{\"a\":\"é\"}".as_bytes()), Some(b"{\"a\":\"\xff\"}"), Some(b"\xc3")];
    let data_type = ddl::parse_schema("a STRING").expect("schema");
    let expect = ["{\"a\":\"x\"}", "NULL", "{\"a\":\"é\"}", "{\"a\":\"\u{fffd}\"}", "{\"a\":null}"];
    let binary: [ArrayRef; 3] = [
        Arc::new(BinaryArray::from(rows.clone())),
        Arc::new(LargeBinaryArray::from(rows.clone())),
        Arc::new(BinaryViewArray::from(rows.clone())),
    ];
    for array in &binary {
        let read = |array: &ArrayRef| show(&from_json(array, &data_type, &options(&[])).expect("read"));
        assert_eq!(read(array), expect, "{}", array.data_type());
        assert_eq!(read(&array.slice(1, 2)), expect[1..3], "{}", array.data_type());
    }
    let texts: Vec<_> = rows[..3].iter().map(|row| row.map(|row| std::str::from_utf8(row).expect("text"))).collect();
    let text: [ArrayRef; 3] = [
        Arc::new(StringArray::from(texts.clone())),
        Arc::new(LargeStringArray::from(texts.clone())),
        Arc::new(StringViewArray::from(texts.clone())),
    ];
    for array in &text {
        assert_eq!(show(&from_json(array, &data_type, &options(&[])).expect("read")), expect[..3]);
    }
}

/// Records made at random, read by us and by serde_json.
#[test]
fn agrees_with_serde_json() {
    const SEED: u64 = 20_260_101;
    let mut rng = StdRng::seed_from_u64(SEED);
    let schema = "id STRING, n BIGINT, x DOUBLE, ok BOOLEAN, tags ARRAY<STRING>, \
                  inner STRUCT<a: STRING, deep: ARRAY<ARRAY<BIGINT>>>, m MAP<STRING, DOUBLE>";
    let data_type = ddl::parse_schema(schema).expect("schema");
    let names = ["id", "n", "x", "ok", "tags", "inner", "m"];
    let mut texts = Vec::new();
    let mut expect = Vec::new();
    for _ in 0..3000 {
        let mut members: Vec<(String, Value)> = Vec::new();
        for name in names {
            let value = match name {
                _ if rng.random_bool(0.1) => Value::Null,
                "id" => json!(random_text(&mut rng)),
                "n" => json!(rng.random::<i64>() >> rng.random_range(0..64)),
                "x" => json!(random_double(&mut rng)),
                "ok" => json!(rng.random::<bool>()),
                "tags" => (0..rng.random_range(0..4)).map(|_| random_text(&mut rng)).collect(),
                "inner" => json!({"a": random_text(&mut rng), "deep": [[rng.random::<i32>()], [], [1, 2]]}),
                _ => (0..rng.random_range(0..3)).map(|i| (format!("k{i}"), json!(random_double(&mut rng)))).collect(),
            };
            members.push((name.to_string(), value));
        }
        if rng.random_bool(0.3) {
            members.push((random_text(&mut rng), json!({"strange": [1, "x", {"y": null}]})));
        }
        members.retain(|_| rng.random_bool(0.9));
        if rng.random_bool(0.2) {
            members.reverse();
        }
        let mut object: Map<String, Value> = members.into_iter().collect();
        let value = Value::Object(object.clone());
        let text = if rng.random_bool(0.3) {
            serde_json::to_string_pretty(&value).expect("json")
        } else if rng.random_bool(0.3) {
            escape_all(&value.to_string())
        } else {
            value.to_string()
        };
        let whole: Map<String, Value> = serde_json::from_str(&text).expect("what was made is JSON");
        assert_eq!(whole, object);
        let ordered = names.map(|name| (name.to_string(), object.remove(name).unwrap_or(Value::Null)));
        expect.push(Value::Object(ordered.into_iter().collect()));
        texts.push(text);
    }
    let array: ArrayRef = Arc::new(StringArray::from_iter_values(&texts));
    let read = from_json(&array, &data_type, &options(&[("mode", "FAILFAST")])).expect("read");
    read.to_data().validate_full().expect("valid arrays");
    for ((text, shown), expect) in texts.iter().zip(show(&read)).zip(expect) {
        let shown: Value = serde_json::from_str(&shown).expect("to_json writes JSON");
        assert_eq!(shown, expect, "seed {SEED}: {text}");
    }
}

/// A number that serde_json, too, reads exactly.
fn random_double(rng: &mut StdRng) -> f64 {
    f64::from(rng.random::<i32>()) / 64.0
}

fn random_text(rng: &mut StdRng) -> String {
    const PIECES: [&str; 14] =
        ["a", "user name", "0123456789abcdef", "\"", "\\", "\n", "\u{1}", "é", "日本", "😀", "'", "/", "{[,:]}", " "];
    (0..rng.random_range(0..6)).map(|_| PIECES[rng.random_range(0..PIECES.len())]).collect()
}

#[test]
fn doubles_are_read_exactly() {
    let mut rng = StdRng::seed_from_u64(11);
    let values: Vec<f64> = (0..2000).map(|_| f64::from_bits(rng.random())).filter(|value| value.is_finite()).collect();
    let texts = values.iter().map(|value| format!("[{value},{value:e}]"));
    let array: ArrayRef = Arc::new(StringArray::from_iter_values(texts));
    let data_type = ddl::parse_schema("ARRAY<DOUBLE>").expect("schema");
    let read = from_json(&array, &data_type, &options(&[("mode", "FAILFAST")])).expect("read");
    let read = read.as_list::<i32>().values().as_primitive::<Float64Type>().values().to_vec();
    assert_eq!(read, values.iter().flat_map(|value| [*value, *value]).collect::<Vec<_>>());
}

/// Every character that is not ASCII as an escape.
fn escape_all(text: &str) -> String {
    let mut out = String::new();
    for unit in text.encode_utf16() {
        match u8::try_from(unit) {
            Ok(byte) if byte.is_ascii() => out.push(byte as char),
            _ => out.push_str(&format!("\\u{unit:04x}")),
        }
    }
    out
}

/// No prefix, and no text with one byte changed, makes the parser panic or the arrays invalid.
#[test]
fn damaged_records() {
    let mut rng = StdRng::seed_from_u64(7);
    let good =
        r#"{"a":"x\u00e9y","b":[1,2,{"c":null}],"m":{"k":-1.5e3,"l":"NaN"},"t":"2024-01-01T00:00:00Z","d":12.5}"#;
    let data_type = ddl::parse_schema(
        "a STRING, b ARRAY<STRING>, m MAP<STRING, DOUBLE>, t TIMESTAMP, d DECIMAL(4,1), _corrupt_record STRING",
    );
    let data_type = data_type.expect("schema");
    let mut texts = Vec::new();
    for _ in 0..20_000 {
        let mut bytes = good.as_bytes().to_vec();
        for _ in 0..rng.random_range(1..4) {
            let at = rng.random_range(0..bytes.len());
            match rng.random_range(0..3) {
                0 => bytes[at] = rng.random_range(0..128),
                1 => {
                    bytes.remove(at);
                }
                _ => bytes.insert(at, b"{}[]\",:\\'0n"[rng.random_range(0..11)]),
            }
        }
        texts.push(String::from_utf8_lossy(&bytes).into_owned());
    }
    let array: ArrayRef = Arc::new(StringArray::from_iter_values(&texts));
    for pairs in [
        &[][..],
        &[
            ("allowComments", "true"),
            ("allowUnquotedFieldNames", "true"),
            ("allowUnquotedControlChars", "true"),
            ("allowBackslashEscapingAnyCharacter", "true"),
        ],
    ] {
        let read = from_json(&array, &data_type, &options(pairs)).expect("read");
        read.to_data().validate_full().expect("valid arrays");
        assert_eq!(read.len(), texts.len());
        // What serde_json finds to be one JSON object must not be malformed here; the reverse does not hold.
        let whole = texts.iter().zip(0..).filter(|(text, _)| serde_json::from_str::<Map<String, Value>>(text).is_ok());
        let rows: Vec<usize> = whole.map(|(_, row)| row).collect();
        assert!(rows.len() > 100);
        let text_column = read.as_struct().column(0);
        for row in rows {
            let has_text = serde_json::from_str::<Value>(&texts[row]).expect("json")["a"].is_string();
            assert!(!has_text || text_column.is_valid(row), "{}", texts[row]);
        }
    }
}

fn call(udf: impl ScalarUDFImpl + 'static, args: Vec<ScalarValue>) -> Result<ScalarValue, String> {
    let udf = ScalarUDF::from(udf);
    let fields: Vec<_> = args.iter().map(|arg| Arc::new(Field::new("x", arg.data_type(), true))).collect();
    let scalars: Vec<_> = args.iter().map(Some).collect();
    let return_field = udf
        .return_field_from_args(ReturnFieldArgs { arg_fields: &fields, scalar_arguments: &scalars })
        .map_err(|e| e.to_string())?;
    let args = args.into_iter().map(ColumnarValue::Scalar).collect();
    let made = udf.invoke_with_args(ScalarFunctionArgs {
        args,
        arg_fields: fields,
        number_rows: 1,
        return_field,
        config_options: Arc::default(),
    });
    match made.map_err(|e| e.to_string())? {
        ColumnarValue::Scalar(scalar) => Ok(scalar),
        ColumnarValue::Array(array) => Err(format!("an array of {} for constants", array.len())),
    }
}

#[test]
fn arguments_are_checked() {
    let text = |text: &str| ScalarValue::Utf8(Some(text.to_string()));
    let class = |args: Vec<ScalarValue>| {
        let error = call(FromJson::default(), args).expect_err("refused");
        Error::class_in(&error).map(|(class, _)| class.to_string()).expect("a class")
    };
    assert_eq!(class(vec![ScalarValue::Int32(Some(1)), text("a INT")]), "DATATYPE_MISMATCH.UNEXPECTED_INPUT_TYPE");
    assert_eq!(class(vec![text("{}"), ScalarValue::Int32(Some(1))]), "INVALID_SCHEMA.NON_STRING_LITERAL");
    assert_eq!(class(vec![text("{}"), text("a FOO")]), "UNSUPPORTED_DATATYPE");
    assert_eq!(class(vec![text("{}"), text("INT")]), "DATATYPE_MISMATCH.INVALID_JSON_SCHEMA");
    assert_eq!(class(vec![text("{}"), text("a INT"), text("mode")]), "INVALID_OPTIONS.NON_STRING_TYPE");
    let error = call(ToJson::default(), vec![ScalarValue::Int32(Some(1))]).expect_err("refused");
    assert!(error.contains("DATATYPE_MISMATCH.INVALID_JSON_SCHEMA"), "{error}");
}

fn context() -> SessionContext {
    let context = SessionContext::new();
    for udf in crate::functions::all() {
        context.register_udf(udf.as_ref().clone());
    }
    context
}

async fn query(sql: &str) -> Result<Vec<String>, String> {
    let frame = context().sql(sql).await.map_err(|e| e.to_string())?;
    let batches = frame.collect().await.map_err(|e| e.to_string())?;
    let column = |batch: &arrow::record_batch::RecordBatch| {
        let text = arrow::compute::cast(batch.column(0), &DataType::Utf8).expect("text");
        text.as_string::<i32>().iter().map(|row| row.unwrap_or("NULL").to_string()).collect::<Vec<_>>()
    };
    Ok(batches.iter().flat_map(column).collect())
}

#[tokio::test]
async fn in_sql() {
    let rows = "(VALUES ('{\"id\":\"x\",\"n\":1}'), (NULL), ('{\"id\":3,\"n\":\"bad\"}'), ('oops')) AS t(value)";
    let check = async |select: &str, expect: &[&str]| {
        assert_eq!(
            query(&format!("SELECT {select} FROM {rows}")).await.as_deref(),
            Ok(&expect.iter().map(|s| s.to_string()).collect::<Vec<_>>()[..]),
            "{select}"
        );
    };
    check("from_json(value, 'id STRING, n INT')['id']", &["x", "NULL", "3", "NULL"]).await;
    check("CAST(from_json(CAST(value AS BYTEA), 'id STRING, n INT')['n'] AS STRING)", &["1", "NULL", "NULL", "NULL"])
        .await;
    check(
        "from_json(value, 'n INT, bad STRING', map('columnNameOfCorruptRecord', 'bad'))['bad']",
        &["NULL", "NULL", "{\"id\":3,\"n\":\"bad\"}", "oops"],
    )
    .await;
    check("to_json(from_json(value, 'id STRING, n INT'))", &["{\"id\":\"x\",\"n\":1}", "NULL", "{\"id\":\"3\"}", "{}"])
        .await;
    check(
        "to_json(from_json(value, 'id STRING, n INT'), map('ignoreNullFields', 'false'))",
        &["{\"id\":\"x\",\"n\":1}", "NULL", "{\"id\":\"3\",\"n\":null}", "{\"id\":null,\"n\":null}"],
    )
    .await;
    let failed = query(&format!("SELECT from_json(value, 'n INT', map('mode', 'FAILFAST'))['n'] FROM {rows}")).await;
    let failed = failed.expect_err("FAILFAST fails");
    assert!(failed.contains("[MALFORMED_RECORD_IN_PARSING.WITHOUT_SUGGESTION]"), "{failed}");
    assert!(failed.contains("field n at byte"), "{failed}");
    let failed =
        query(&format!("SELECT from_json(value, 'n INT', map('mode', 'DROPMALFORMED'))['n'] FROM {rows}")).await;
    assert!(failed.expect_err("refused").contains("[PARSE_MODE_UNSUPPORTED]"));
}

/// Ballista sends plans as datafusion-proto writes them and finds functions by name at the other end.
#[tokio::test]
async fn plans_cross_the_wire() {
    let sql = "SELECT from_json(value, 'id STRING COMMENT ''key'', l ARRAY<INT> NOT NULL, _corrupt_record STRING', \
               map('timeZone', 'Asia/Kolkata')) AS data, spark_binary_to_string(value) AS text \
               FROM (VALUES (X'7b226964223a317d'), (X'ff')) AS t(value)";
    let context = context();
    let plan = context.sql(sql).await.expect("planned").create_physical_plan().await.expect("physical");
    let bytes = datafusion_proto::bytes::physical_plan_to_bytes(plan.clone()).expect("encoded");
    let back = datafusion_proto::bytes::physical_plan_from_bytes(&bytes, &context.task_ctx()).expect("decoded");
    let run = async |plan| datafusion::physical_plan::collect(plan, context.task_ctx()).await.expect("ran");
    let (here, there) = (run(plan).await, run(back).await);
    assert_eq!(here[0].columns(), there[0].columns());
    assert_eq!(
        show(here[0].column(0)),
        [r#"{"id":"1","l":null,"_corrupt_record":null}"#, "{\"id\":null,\"l\":null,\"_corrupt_record\":\"\u{fffd}\"}"]
    );
}

#[test]
fn written_as_spark_writes() {
    let write = |schema: &str, text: &str, pairs: &[(&str, &str)]| {
        let texts: ArrayRef = Arc::new(StringArray::from(vec![text]));
        let data_type = ddl::as_nullable(&ddl::parse_schema(schema).expect("schema"));
        let array = from_json(&texts, &data_type, &options(&[("mode", "FAILFAST")])).expect("read");
        to_json(&array, &options(pairs)).expect("written").as_string::<i32>().value(0).to_string()
    };
    let schema = "a INT, b STRUCT<c: STRING, d: INT>, e ARRAY<INT>, f MAP<STRING, INT>, g TIMESTAMP, h TIMESTAMP_NTZ, i DATE, j DECIMAL(10,3)";
    let text = r#"{"b":{"c":"x"},"e":[null],"f":{"k":null},"g":"2024-07-04 01:02:03.45678","h":"2024-07-04 01:02:03","i":"2024-07-04","j":1.5}"#;
    assert_eq!(
        write(schema, text, &[]),
        r#"{"b":{"c":"x"},"e":[null],"f":{"k":null},"g":"2024-07-04T01:02:03.456Z","h":"2024-07-04T01:02:03.000","i":"2024-07-04","j":1.500}"#
    );
    assert_eq!(
        write("g TIMESTAMP", r#"{"g":"2024-07-04 01:02:03"}"#, &[("timeZone", "Europe/Paris")]),
        r#"{"g":"2024-07-04T03:02:03.000+02:00"}"#
    );
    assert_eq!(
        write(
            "g TIMESTAMP, i DATE",
            r#"{"g":"2024-07-04 01:02:03","i":"2024-07-04"}"#,
            &[("timestampFormat", "HH:mm"), ("dateFormat", "d.M.yy")]
        ),
        r#"{"g":"01:02","i":"4.7.24"}"#
    );
    assert_eq!(
        write(
            "a INT, b STRUCT<c: ARRAY<INT>, d: STRUCT<x: INT>>, f MAP<STRING, INT>",
            r#"{"a":1,"b":{"c":[1,2],"d":{}},"f":{"k":3}}"#,
            &[("pretty", "true")]
        ),
        "{\n  \"a\" : 1,\n  \"b\" : {\n    \"c\" : [ 1, 2 ],\n    \"d\" : { }\n  },\n  \"f\" : {\n    \"k\" : 3\n  }\n}"
    );
    assert_eq!(write("ARRAY<INT>", "[]", &[("pretty", "true")]), "[ ]");
    // Null structs are null, and slices are written from where they begin.
    let ints: ArrayRef = Arc::new(arrow::array::PrimitiveArray::<Int32Type>::from(vec![1, 2, 3]));
    let fields = vec![Field::new("n", DataType::Int32, true)].into();
    let array = StructArray::new(fields, vec![ints], Some(vec![true, false, true].into()));
    let sliced: ArrayRef = Arc::new(array.slice(1, 2));
    assert_eq!(show(&sliced), ["NULL", "{\"n\":3}"]);
}
