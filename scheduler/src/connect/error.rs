//! Errors as Spark's clients want them.
//!
//! Every error is a gRPC status of code INTERNAL, as Spark's are: clients run a request again on UNAVAILABLE, which
//! would give the same answer fifteen times. The details carry a `google.rpc.ErrorInfo`: the Java classes of Spark's
//! exception, by which Python picks its own (`AnalysisException`, …), error class, SQLSTATE and message parameters.
//! Headers are small, so the whole is kept under an id, which clients of 4.x fetch it by (`FetchErrorDetails`).

use super::sqlstate;
use headwater_proto::error::{Error, ErrorKind, QueryContext};
use headwater_proto::spark::fetch_error_details_response as details;
use prost::Message;
use std::collections::HashMap;
pub use tonic::Status;

/// Headers are small, and Spark's limits are these: more is for `FetchErrorDetails`.
/// Counted as it is on the wire, where most signs take three bytes and a letter of another script six.
const MESSAGE_BYTES_MAX: usize = 3072;
const PARAMETERS_BYTES_MAX: usize = 1024;

const ANALYSIS: &[&str] = &["org.apache.spark.sql.AnalysisException"];
const PARSE: &[&str] =
    &["org.apache.spark.sql.catalyst.parser.ParseException", "org.apache.spark.sql.AnalysisException"];
const ARITHMETIC: &[&str] = &["org.apache.spark.SparkArithmeticException", "java.lang.ArithmeticException"];
const NUMBER: &[&str] = &[
    "org.apache.spark.SparkNumberFormatException",
    "java.lang.NumberFormatException",
    "java.lang.IllegalArgumentException",
];
const DATE_TIME: &[&str] = &["org.apache.spark.SparkDateTimeException", "java.time.DateTimeException"];
const INDEX: &[&str] =
    &["org.apache.spark.SparkArrayIndexOutOfBoundsException", "java.lang.ArrayIndexOutOfBoundsException"];
const ILLEGAL_ARGUMENT: &[&str] =
    &["org.apache.spark.SparkIllegalArgumentException", "java.lang.IllegalArgumentException"];
const NO_SUCH_ELEMENT: &[&str] = &["org.apache.spark.SparkNoSuchElementException", "java.util.NoSuchElementException"];
const UNSUPPORTED: &[&str] =
    &["org.apache.spark.SparkUnsupportedOperationException", "java.lang.UnsupportedOperationException"];
const SQL: &[&str] = &["org.apache.spark.SparkSQLException", "java.sql.SQLException"];
const STREAMING: &[&str] = &["org.apache.spark.sql.streaming.StreamingQueryException"];
const INVALID_PLAN: &[&str] = &["org.apache.spark.sql.connect.common.InvalidPlanInput"];
const RUNTIME: &[&str] = &["org.apache.spark.SparkRuntimeException", "java.lang.RuntimeException"];
const SPARK: &[&str] = &["org.apache.spark.SparkException"];

/// The Java classes of the exception that Spark throws for an error, the closest first.
pub fn exceptions(error: &Error) -> &'static [&'static str] {
    let main = error.class.split('.').next().unwrap_or_default();
    match main {
        "PARSE_SYNTAX_ERROR"
        | "PARSE_EMPTY_STATEMENT"
        | "INVALID_SQL_SYNTAX"
        | "INVALID_TYPED_LITERAL"
        | "INVALID_NUMERIC_LITERAL_RANGE"
        | "UNCLOSED_BRACKETED_COMMENT"
        | "REPEATED_CLAUSE"
        | "INVALID_IDENTIFIER"
        | "UNSUPPORTED_DATATYPE"
        | "DATATYPE_MISSING_SIZE"
        | "DUPLICATE_KEY" => PARSE,
        "DIVIDE_BY_ZERO"
        | "REMAINDER_BY_ZERO"
        | "ARITHMETIC_OVERFLOW"
        | "BINARY_ARITHMETIC_OVERFLOW"
        | "CAST_OVERFLOW"
        | "CAST_OVERFLOW_IN_TABLE_INSERT"
        | "NUMERIC_VALUE_OUT_OF_RANGE"
        | "NUMERIC_OUT_OF_SUPPORTED_RANGE"
        | "INTERVAL_ARITHMETIC_OVERFLOW"
        | "INTERVAL_DIVIDED_BY_ZERO"
        | "DATETIME_OVERFLOW" => ARITHMETIC,
        "CAST_INVALID_INPUT" if casts_to_time(error) => DATE_TIME,
        "CAST_INVALID_INPUT" => NUMBER,
        "CANNOT_PARSE_TIMESTAMP"
        | "CANNOT_PARSE_TIME"
        | "DATETIME_FIELD_OUT_OF_BOUNDS"
        | "INVALID_FRACTION_OF_SECOND"
        | "INVALID_TIMEZONE" => DATE_TIME,
        "INVALID_ARRAY_INDEX" | "INVALID_ARRAY_INDEX_IN_ELEMENT_AT" => INDEX,
        "SQL_CONF_NOT_FOUND" => NO_SUCH_ELEMENT,
        "INVALID_CONF_VALUE" | "CODEC_NOT_AVAILABLE" | "INVALID_DATETIME_PATTERN" | "CANNOT_PARSE_INTERVAL" => {
            ILLEGAL_ARGUMENT
        }
        "INVALID_HANDLE" | "INVALID_CURSOR" | "OPERATION_CANCELED" => SQL,
        "STREAM_FAILED" => STREAMING,
        "CONNECT_INVALID_PLAN" => INVALID_PLAN,
        "UNSUPPORTED_CALL" | "INVALID_CLONE_SESSION_REQUEST" => UNSUPPORTED,
        "USER_RAISED_EXCEPTION"
        | "SCALAR_SUBQUERY_TOO_MANY_ROWS"
        | "INVALID_INDEX_OF_ZERO"
        | "NULL_MAP_KEY"
        | "DUPLICATED_MAP_KEY"
        | "NOT_NULL_ASSERT_VIOLATION"
        | "INVALID_PARAMETER_VALUE"
        | "INVALID_REGEXP_REPLACE"
        | "INVALID_UTF8_STRING"
        | "INVALID_BITMAP_POSITION"
        | "LOCATION_ALREADY_EXISTS"
        | "COMPARATOR_RETURNS_NULL"
        | "EXCEED_LIMIT_LENGTH"
        | "MALFORMED_RECORD_IN_PARSING" => RUNTIME,
        _ => match error.kind {
            ErrorKind::InvalidRequest | ErrorKind::NotFound | ErrorKind::AlreadyExists => ANALYSIS,
            ErrorKind::Transient | ErrorKind::Fatal | ErrorKind::Internal => SPARK,
        },
    }
}

/// Whether a cast that failed was to a date or a time, of which Spark has other exceptions than of numbers.
fn casts_to_time(error: &Error) -> bool {
    let of = |text: &str| ["DATE", "TIMESTAMP", "INTERVAL"].iter().any(|name| text.contains(name));
    match error.details.as_ref().and_then(|details| details.parameters.get("targetType")) {
        Some(target) => of(target),
        None => of(&error.message),
    }
}

/// Spark's text of an error: class, message, SQLSTATE.
pub fn message(error: &Error) -> String {
    match sqlstate::of(&error.class) {
        Some(state) => format!("[{}] {} SQLSTATE: {state}", error.class, error.message),
        None => error.to_string(),
    }
}

/// The one place where errors become statuses of Spark Connect. `error_id`: what the whole error is kept under.
pub fn status(error: &Error, error_id: Option<&str>) -> Status {
    let text = shortened(message(error));
    let classes = exceptions(error);
    let mut metadata = HashMap::from([
        ("classes".to_string(), serde_json::json!(classes).to_string()),
        ("errorClass".to_string(), error.class.clone()),
    ]);
    if let Some(state) = sqlstate::of(&error.class) {
        metadata.insert("sqlState".into(), state.into());
    }
    if let Some(details) = &error.details {
        let parameters = serde_json::json!(details.parameters).to_string();
        if parameters.len() <= PARAMETERS_BYTES_MAX {
            metadata.insert("messageParameters".into(), parameters);
        }
    } else {
        metadata.insert("messageParameters".into(), "{}".into());
    }
    if let Some(id) = error_id {
        metadata.insert("errorId".into(), id.into());
    }
    let reason = classes.first().copied().unwrap_or_default().to_string();
    let info = ErrorInfo { reason, domain: "org.apache.spark".into(), metadata };
    let code = tonic::Code::Internal;
    let detail = Any { type_url: "type.googleapis.com/google.rpc.ErrorInfo".into(), value: info.encode_to_vec() };
    let status = RpcStatus { code: code as i32, message: text.clone(), details: vec![detail] };
    Status::with_details(code, text, status.encode_to_vec().into())
}

fn shortened(mut text: String) -> String {
    let mut bytes = 0;
    for (at, c) in text.char_indices() {
        bytes += if c.is_ascii_alphanumeric() { 1 } else { 3 * c.len_utf8() };
        if bytes > MESSAGE_BYTES_MAX {
            text.truncate(at);
            text.push_str("...");
            break;
        }
    }
    text
}

/// The whole of an error, for `FetchErrorDetails`.
pub fn whole(error: &Error) -> details::Error {
    let (parameters, contexts) = match &error.details {
        Some(details) => (details.parameters.clone(), details.contexts.iter().map(context).collect()),
        None => Default::default(),
    };
    details::Error {
        error_type_hierarchy: exceptions(error).iter().map(|class| (*class).to_string()).collect(),
        message: message(error),
        stack_trace: vec![],
        cause_idx: None,
        spark_throwable: Some(details::SparkThrowable {
            error_class: Some(error.class.clone()),
            message_parameters: parameters.into_iter().collect(),
            query_contexts: contexts,
            sql_state: sqlstate::of(&error.class).map(Into::into),
            breaking_change_info: None,
        }),
    }
}

fn context(context: &QueryContext) -> details::QueryContext {
    let QueryContext { dataframe, object_type, object_name, start_index, stop_index, fragment, call_site } =
        context.clone();
    let context_type = match dataframe {
        true => details::query_context::ContextType::Dataframe,
        false => details::query_context::ContextType::Sql,
    };
    let summary = match dataframe {
        true => format!("== DataFrame ==\n\"{fragment}\" was called from\n{call_site}\n"),
        false => format!("== SQL ==\n{fragment}\n"),
    };
    details::QueryContext {
        context_type: context_type.into(),
        object_type,
        object_name,
        start_index,
        stop_index,
        fragment,
        call_site,
        summary,
    }
}

/// `google.rpc.Status`.
#[derive(Clone, PartialEq, Message)]
struct RpcStatus {
    #[prost(int32, tag = "1")]
    code: i32,
    #[prost(string, tag = "2")]
    message: String,
    #[prost(message, repeated, tag = "3")]
    details: Vec<Any>,
}

/// `google.protobuf.Any`.
#[derive(Clone, PartialEq, Message)]
struct Any {
    #[prost(string, tag = "1")]
    type_url: String,
    #[prost(bytes = "vec", tag = "2")]
    value: Vec<u8>,
}

/// `google.rpc.ErrorInfo`.
#[derive(Clone, PartialEq, Message)]
struct ErrorInfo {
    #[prost(string, tag = "1")]
    reason: String,
    #[prost(string, tag = "2")]
    domain: String,
    #[prost(map = "string, string", tag = "3")]
    metadata: HashMap<String, String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_find_their_exception() {
        let check = |error: Error, expect: &str| assert_eq!(exceptions(&error)[0], expect, "{error}");
        let analysis = "org.apache.spark.sql.AnalysisException";
        check(Error::invalid("PARSE_SYNTAX_ERROR", "x"), "org.apache.spark.sql.catalyst.parser.ParseException");
        check(Error::new(ErrorKind::NotFound, "TABLE_OR_VIEW_NOT_FOUND", "x"), analysis);
        check(Error::invalid("UNRESOLVED_COLUMN.WITH_SUGGESTION", "x"), analysis);
        check(Error::fatal("DIVIDE_BY_ZERO", "x"), "org.apache.spark.SparkArithmeticException");
        let cast = |target: &str| Error::invalid("CAST_INVALID_INPUT", "x").with("targetType", target);
        check(cast("\"INT\""), "org.apache.spark.SparkNumberFormatException");
        check(cast("\"DATE\""), "org.apache.spark.SparkDateTimeException");
        check(Error::transient("KAFKA_UNREACHABLE", "x"), "org.apache.spark.SparkException");
        check(Error::internal("x"), "org.apache.spark.SparkException");
    }

    #[test]
    fn statuses_carry_what_python_reads() {
        let error = Error::invalid("UNRESOLVED_COLUMN.WITH_SUGGESTION", "no `b`").with("objectName", "`b`");
        let status = status(&error, Some("id-1"));
        assert_eq!(status.code(), tonic::Code::Internal);
        assert_eq!(status.message(), "[UNRESOLVED_COLUMN.WITH_SUGGESTION] no `b` SQLSTATE: 42703");
        let decoded = RpcStatus::decode(status.details()).expect("a status");
        let info = ErrorInfo::decode(decoded.details[0].value.as_slice()).expect("an error info");
        let value = |key: &str| info.metadata.get(key).map(String::as_str);
        assert_eq!(value("classes"), Some(r#"["org.apache.spark.sql.AnalysisException"]"#));
        assert_eq!(value("messageParameters"), Some(r#"{"objectName":"`b`"}"#));
        assert_eq!((value("sqlState"), value("errorId")), (Some("42703"), Some("id-1")));
    }

    #[test]
    fn headers_stay_small() {
        let long = "é".repeat(100_000);
        let status = status(&Error::invalid("X_Y", &long).with("a", &long), Some("id"));
        assert!(status.message().len() <= MESSAGE_BYTES_MAX && status.message().ends_with("..."));
        assert!(status.details().len() < 4000, "{}", status.details().len());
    }
}
