//! The constant arguments of `from_avro`, `to_avro`, `from_protobuf` and `to_protobuf`, made complete while planning.
//!
//! What a query writes names a subject, an address, a file; what a plan holds is the schema itself, so that scheduler
//! and executors mean the same one whatever the registry says later:
//!
//! ```text
//! from_avro(value, 'users-value', 'http://…', map('mode', 'PERMISSIVE'))
//!   ─► from_avro(value, '{"type":"record",…}', '{"schema.registry.address":"http://…","headwater.schema.id":"7",…}')
//! from_protobuf(value, 'User', '/schemas/user.desc')
//!   ─► from_protobuf(value, 'User', <descriptor set>, '{}')
//! ```
//!
//! SQL is bound on its syntax tree by [`bind`], before types are asked for. Expressions that come another way are bound
//! by [`bind_expressions`], or at the latest where a function is asked for its type, which then waits for the registry.

use super::avro::options::{SCHEMA_ID, SCHEMA_REFERENCES};
use super::json::{external, option_pairs};
use super::protobuf::descriptor;
use super::records::Format;
use crate::connectors::Options;
use crate::registry::{Config, Kind, Registry, Schema, from_plan, registry_key, registry_option, to_plan, wait};
use arrow::datatypes::DataType;
use datafusion::common::ScalarValue;
use datafusion::error::Result as PlanResult;
use datafusion::logical_expr::simplify::ExprSimplifyResult;
use datafusion::logical_expr::{ColumnarValue, Expr, lit};
use headwater_proto::error::{Error, Result};
use std::sync::Arc;

/// Functions whose constant arguments are bound.
pub const FUNCTIONS: [&str; 4] = ["from_avro", "to_avro", "from_protobuf", "to_protobuf"];

/// A constant argument after the first, as a query has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Argument {
    /// Text.
    Text(String),
    /// Bytes.
    Bytes(Vec<u8>),
    /// A map of text to text.
    Pairs(Vec<(String, String)>),
    /// Null: as if it were not there.
    Null,
    /// Not constant, or not yet.
    Unknown,
}

/// The constant arguments of a call, complete.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Bound {
    /// Avro: the schema. Protobuf: the message's name.
    pub schema: Option<String>,
    /// Protobuf: a `FileDescriptorSet`, the schema's own file last.
    pub descriptor: Option<Arc<[u8]>>,
    /// As [`to_plan`] writes them.
    options: String,
}

impl Bound {
    /// The options.
    ///
    /// # Errors
    /// Text that no plan holds.
    pub fn options(&self) -> Result<Options> {
        from_plan(&self.options)
    }

    /// The arguments that stand in a plan.
    pub fn arguments(&self) -> Vec<Argument> {
        let mut arguments = vec![Argument::Text(self.schema.clone().unwrap_or_default())];
        arguments.extend(self.descriptor.as_ref().map(|bytes| Argument::Bytes(bytes.to_vec())));
        arguments.push(Argument::Text(self.options.clone()));
        arguments
    }
}

/// What is left to do for a call.
#[derive(Debug, PartialEq, Eq)]
enum Call {
    /// Nothing.
    Bound(Bound),
    /// Nothing, but it is not in the plan's form.
    Complete(Bound),
    /// Fetch the schema of a subject.
    Subject { schema: Option<String>, options: Options },
    /// Read a file of descriptors.
    File { message: String, path: String, options: Options },
}

fn is_plan(text: &str) -> bool {
    text.starts_with('{')
}

/// Whether text is a schema and no subject's name.
fn is_avro_schema(text: &str) -> bool {
    text.trim_start().starts_with(['{', '[', '"'])
}

fn wrong(function: &str) -> Error {
    let forms = match function {
        "from_avro" => "from_avro(data, schema[, options]) or from_avro(data, subject, address[, options])",
        "to_avro" => "to_avro(data[, schema][, options]) or to_avro(data, subject, address[, schema][, options])",
        "from_protobuf" => {
            "from_protobuf(data, message, descriptors[, options]), or from_protobuf(data, message, options) with \
             schema.registry.address and schema.registry.subject"
        }
        _ => {
            "to_protobuf(data, message, descriptors[, options]), or to_protobuf(data, message, options) with \
             schema.registry.address and schema.registry.subject"
        }
    };
    Error::invalid(
        "DATATYPE_MISMATCH.NON_FOLDABLE_INPUT",
        format!(
            "{function}: its arguments after the first are literals: {forms}, where options are map('key', 'value', …)"
        ),
    )
}

/// What is left to do for a call of `function` with these arguments. `defaults`: options of registries.
fn call(function: &str, arguments: &[Argument], defaults: &Options) -> Result<Call> {
    use Argument::{Bytes, Null, Pairs, Text, Unknown};
    // Null is as good as nothing, at the end.
    let mut arguments = arguments;
    while let Some((Null, rest)) = arguments.split_last() {
        arguments = rest;
    }
    let given =
        |pairs: &[(String, String)]| Options::new(pairs.iter().map(|(key, value)| (key.clone(), value.clone())));
    let complete = |schema: Option<&str>, descriptor: Option<&[u8]>, options: &Options| {
        Call::Complete(Bound {
            schema: schema.map(str::to_string),
            descriptor: descriptor.map(Arc::from),
            options: to_plan(options),
        })
    };
    // What is not known yet cannot name a registry; a function that has it is bound again when it is known.
    let (arguments, options) = match arguments.split_last() {
        Some((Pairs(pairs), rest)) => (rest, Some(given(pairs))),
        Some((Unknown, rest)) if !rest.is_empty() || function == "to_avro" => (rest, None),
        _ => (arguments, Some(Options::default())),
    };
    let known = options.is_some();
    let mut options = options.unwrap_or_default();
    let names_registry = options.iter().any(|(key, _)| registry_key(key).is_some());
    let with_registry = |mut options: Options, subject: Option<&str>, address: Option<&str>| -> Result<Options> {
        if !known {
            return Err(wrong(function));
        }
        for (key, value) in defaults.iter() {
            let name = registry_key(key);
            if name.as_deref().is_some_and(|name| registry_option(&options, name).is_none()) {
                options.set(key, value);
            }
        }
        for (name, value) in [("subject", subject), ("address", address)] {
            if let Some(value) = value {
                options.set(format!("schema.registry.{name}"), value);
            }
        }
        Ok(options)
    };
    Ok(match (function, arguments) {
        ("from_avro" | "to_avro", [Text(schema), Text(text)]) if is_plan(text) => {
            Call::Bound(Bound { schema: Some(schema.clone()), descriptor: None, options: text.clone() })
        }
        ("from_protobuf" | "to_protobuf", [Text(name), Bytes(bytes), Text(text)]) if is_plan(text) => {
            Call::Bound(Bound {
                schema: Some(name.clone()),
                descriptor: Some(Arc::from(bytes.as_slice())),
                options: text.clone(),
            })
        }
        ("from_avro", [Text(schema)]) | ("to_avro", [Text(schema)]) if names_registry => {
            if is_avro_schema(schema) {
                complete(Some(schema), None, &with_registry(options, None, None)?)
            } else {
                Call::Subject { schema: None, options: with_registry(options, Some(schema), None)? }
            }
        }
        ("from_avro" | "to_avro", [Text(schema)]) => complete(Some(schema), None, &options),
        ("to_avro", []) if names_registry => {
            Call::Subject { schema: None, options: with_registry(options, None, None)? }
        }
        ("to_avro", []) => complete(None, None, &options),
        ("from_avro" | "to_avro", [Text(subject), Text(address)]) => {
            Call::Subject { schema: None, options: with_registry(options, Some(subject), Some(address))? }
        }
        ("to_avro", [Text(subject), Text(address), Text(schema)]) => Call::Subject {
            schema: Some(schema.clone()),
            options: with_registry(options, Some(subject), Some(address))?,
        },
        ("from_protobuf" | "to_protobuf", [Text(name), Bytes(bytes)]) => {
            if names_registry {
                options = with_registry(options, None, None)?;
            }
            complete(Some(name), Some(bytes), &options)
        }
        ("from_protobuf" | "to_protobuf", [Text(message), Text(path)]) => {
            if names_registry {
                options = with_registry(options, None, None)?;
            }
            Call::File { message: message.clone(), path: path.clone(), options }
        }
        ("from_protobuf" | "to_protobuf", [Text(message)]) if names_registry => {
            Call::Subject { schema: Some(message.clone()), options: with_registry(options, None, None)? }
        }
        ("from_protobuf" | "to_protobuf", []) if names_registry => {
            Call::Subject { schema: None, options: with_registry(options, None, None)? }
        }
        ("from_protobuf" | "to_protobuf", [Text(message)]) => {
            return Err(Error::invalid(
                "CANNOT_LOAD_PROTOBUF_CLASS",
                format!(
                    "{function}: {message} would be a Java class, and there is no JVM: name a file of descriptors \
                     (protoc --include_imports --descriptor_set_out=FILE) or a schema registry"
                ),
            ));
        }
        _ => return Err(wrong(function)),
    })
}

async fn complete(function: &str, call: Call) -> Result<Bound> {
    match call {
        Call::Bound(bound) | Call::Complete(bound) => Ok(bound),
        Call::File { message, path, options } => {
            let bytes = tokio::fs::read(&path).await.map_err(|error| {
                Error::invalid(
                    "PROTOBUF_DESCRIPTOR_FILE_NOT_FOUND",
                    format!("{function}: descriptors at {path} cannot be read on the scheduler: {error}"),
                )
            })?;
            descriptor::pool(&bytes)?;
            Ok(Bound { schema: Some(message), descriptor: Some(Arc::from(bytes)), options: to_plan(&options) })
        }
        Call::Subject { schema, options } if function.ends_with("avro") => avro(function, schema, options).await,
        Call::Subject { schema, options } => protobuf(function, schema, options).await,
    }
}

async fn avro(function: &str, given: Option<String>, mut options: Options) -> Result<Bound> {
    let parsed = super::avro::options::Options::parse(function, &options)?;
    let given = given.or(parsed.reader_schema);
    let latest = match (function, &given) {
        // What is written is registered by who writes, unless it is to be what is there.
        ("to_avro", _) if !parsed.use_latest => None,
        ("from_avro", Some(_)) => None,
        _ => Some(latest(function, &options, Kind::Avro).await?),
    };
    let schema = match latest {
        None => given,
        Some(latest) => {
            options.set(SCHEMA_ID, latest.id.to_string());
            if !latest.references.is_empty() {
                let references = serde_json::to_string(&latest.references).map_err(Error::internal)?;
                options.set(SCHEMA_REFERENCES, references);
            }
            Some(latest.text.clone())
        }
    };
    Ok(Bound { schema, descriptor: None, options: to_plan(&options) })
}

async fn protobuf(function: &str, message: Option<String>, mut options: Options) -> Result<Bound> {
    let message = message.or_else(|| registry_option(&options, "protobuf.name").map(str::to_string));
    let bytes = match registry_option(&options, "schema").map(str::to_string) {
        Some(text) => descriptor::compile(&text, &[])?,
        None => {
            let latest = latest(function, &options, Kind::Protobuf).await?;
            options.set(SCHEMA_ID, latest.id.to_string());
            descriptor::compile(&latest.text, &latest.references)?
        }
    };
    Ok(Bound { schema: message, descriptor: Some(Arc::from(bytes)), options: to_plan(&options) })
}

async fn latest(function: &str, options: &Options, kind: Kind) -> Result<Arc<Schema>> {
    let config = Config::from_options(options)?;
    let Some(subject) = registry_option(options, "subject") else {
        return Err(Error::invalid(
            "SCHEMA_REGISTRY_CONFIGURATION_ERROR",
            format!("{function}: no subject is named: set the option schema.registry.subject, such as topic-value"),
        ));
    };
    let latest = Registry::of(&config)?.latest(subject).await?;
    if latest.kind != kind {
        return Err(Error::invalid(
            "SCHEMA_REGISTRY_CONFIGURATION_ERROR",
            format!("{function}: subject {subject} has {} schemas, not {kind} ones", latest.kind),
        ));
    }
    Ok(latest)
}

/// Options of registries among a session's settings: `schema.registry.…` and `confluent.schema.registry.…`, alone or
/// behind `spark.`. They hold where a function names a registry and not the option.
pub fn defaults<'a>(conf: impl IntoIterator<Item = (&'a str, &'a str)>) -> Options {
    let settings = conf.into_iter().map(|(key, value)| (key.strip_prefix("spark.").unwrap_or(key), value));
    Options::new(settings.filter(|(key, _)| registry_key(key).is_some()))
}

/// The type of a call that needs nothing more: its names are those that a query may spell in another case.
pub fn result_type(function: &str, arguments: &[Argument]) -> Option<DataType> {
    let (Call::Bound(bound) | Call::Complete(bound)) = call(function, arguments, &Options::default()).ok()? else {
        return None;
    };
    // What is wrong is reported when the function is planned.
    let format = match function {
        "from_avro" => Format::Avro,
        "from_protobuf" => Format::Protobuf,
        _ => return None,
    };
    Some(format.reader(bound).ok()?.data_type().clone())
}

/// The arguments that are to stand in the plan in place of these, which are those after the first. None: these.
///
/// # Errors
/// Wrong arguments; those of the registry.
pub async fn bind(function: &str, arguments: &[Argument], defaults: &Options) -> Result<Option<Vec<Argument>>> {
    // Whether it is an error is for the function to say, which sees them again.
    if arguments.contains(&Argument::Unknown) {
        return Ok(None);
    }
    match call(function, arguments, defaults)? {
        Call::Bound(_) => Ok(None),
        call => Ok(Some(complete(function, call).await?.arguments())),
    }
}

/// As [`bind`] for a call's arguments, the first included, as DataFusion's expressions.
///
/// # Errors
/// Wrong arguments; those of the registry.
pub async fn bind_expressions(function: &str, args: Vec<Expr>, defaults: &Options) -> Result<Vec<Expr>> {
    if !FUNCTIONS.contains(&function) || args.is_empty() {
        return Ok(args);
    }
    let arguments: Vec<Argument> = args[1..].iter().map(of_expression).collect();
    Ok(replaced(args, bind(function, &arguments, defaults).await?))
}

fn replaced(mut args: Vec<Expr>, bound: Option<Vec<Argument>>) -> Vec<Expr> {
    let Some(bound) = bound else { return args };
    args.truncate(1);
    args.extend(bound.into_iter().filter_map(|argument| match argument {
        Argument::Text(text) => Some(lit(text)),
        Argument::Bytes(bytes) => Some(lit(ScalarValue::Binary(Some(bytes)))),
        Argument::Pairs(_) | Argument::Null | Argument::Unknown => None,
    }));
    args
}

fn of_expression(expr: &Expr) -> Argument {
    match expr {
        Expr::Literal(value, _) => of_scalar(value),
        Expr::Alias(alias) => of_expression(&alias.expr),
        Expr::ScalarFunction(call) if matches!(call.name(), "map" | "make_map" | "create_map") => {
            let parts: Vec<Argument> = call.args.iter().map(of_expression).collect();
            pairs(&parts).unwrap_or(Argument::Unknown)
        }
        _ => Argument::Unknown,
    }
}

/// A map of keys and values in turn.
pub fn pairs(parts: &[Argument]) -> Option<Argument> {
    let pairs = parts.chunks(2).map(|pair| match pair {
        [Argument::Text(key), Argument::Text(value)] => Some((key.clone(), value.clone())),
        _ => None,
    });
    pairs.collect::<Option<_>>().map(Argument::Pairs)
}

fn of_scalar(value: &ScalarValue) -> Argument {
    match value {
        value if value.is_null() => Argument::Null,
        ScalarValue::Utf8(Some(text)) | ScalarValue::LargeUtf8(Some(text)) | ScalarValue::Utf8View(Some(text)) => {
            Argument::Text(text.clone())
        }
        ScalarValue::Binary(Some(bytes))
        | ScalarValue::LargeBinary(Some(bytes))
        | ScalarValue::BinaryView(Some(bytes))
        | ScalarValue::FixedSizeBinary(_, Some(bytes)) => Argument::Bytes(bytes.clone()),
        ScalarValue::Dictionary(_, inner) => of_scalar(inner),
        ScalarValue::Map(_) => match option_pairs("", &ColumnarValue::Scalar(value.clone())) {
            Ok(pairs) => Argument::Pairs(pairs),
            Err(_) => Argument::Unknown,
        },
        _ => Argument::Unknown,
    }
}

fn bound(function: &'static str, arguments: &[Argument]) -> Result<Bound> {
    match call(function, arguments, &Options::default())? {
        Call::Bound(bound) | Call::Complete(bound) => Ok(bound),
        call => wait(complete(function, call)),
    }
}

/// The arguments after the first while types are planned; some may not be known yet.
pub(crate) fn of_literals(function: &'static str, arguments: &[Option<&ScalarValue>]) -> PlanResult<Bound> {
    let arguments: Vec<_> = arguments.iter().map(|argument| argument.map_or(Argument::Unknown, of_scalar)).collect();
    bound(function, &arguments).map_err(external)
}

/// The arguments after the first while the function runs.
pub(crate) fn of_values(function: &'static str, arguments: &[ColumnarValue]) -> PlanResult<Bound> {
    let arguments = arguments.iter().map(|argument| match argument {
        ColumnarValue::Scalar(value) => Ok(of_scalar(value)),
        array @ ColumnarValue::Array(_) => option_pairs(function, array).map(Argument::Pairs),
    });
    bound(function, &arguments.collect::<PlanResult<Vec<_>>>()?).map_err(external)
}

/// Binds what is not bound yet when a plan is optimized.
pub(crate) fn simplify(function: &'static str, args: Vec<Expr>) -> PlanResult<ExprSimplifyResult> {
    let arguments: Vec<Argument> = args.iter().skip(1).map(of_expression).collect();
    if arguments.contains(&Argument::Unknown) {
        return Ok(ExprSimplifyResult::Original(args));
    }
    match call(function, &arguments, &Options::default()).map_err(external)? {
        Call::Bound(_) => Ok(ExprSimplifyResult::Original(args)),
        call => {
            let bound = wait(complete(function, call)).map_err(external)?;
            let call = datafusion::logical_expr::expr::ScalarFunction::new_udf(
                function_of(function)?,
                replaced(args, Some(bound.arguments())),
            );
            Ok(ExprSimplifyResult::Simplified(Expr::ScalarFunction(call)))
        }
    }
}

fn function_of(name: &str) -> PlanResult<Arc<datafusion::logical_expr::ScalarUDF>> {
    let found = super::all().into_iter().find(|function| function.name() == name);
    found.ok_or_else(|| external(Error::internal(format!("there is no function {name}"))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use Argument::{Bytes, Null, Pairs, Text, Unknown};

    fn text(text: &str) -> Argument {
        Text(text.into())
    }

    fn map(pairs: &[(&str, &str)]) -> Argument {
        Pairs(pairs.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect())
    }

    fn called(function: &str, arguments: &[Argument]) -> Result<Call> {
        call(function, arguments, &defaults([("spark.schema.registry.request.timeout.ms", "9"), ("other", "x")]))
    }

    #[test]
    fn what_is_complete_stays() {
        let check = |function: &str, arguments: &[Argument], schema: Option<&str>, options: &str| {
            let Call::Complete(bound) = called(function, arguments).expect("valid") else { panic!("{arguments:?}") };
            assert_eq!((bound.schema.as_deref(), bound.options.as_str()), (schema, options));
            // In the plan's form it is what it was.
            let Call::Bound(again) = called(function, &bound.arguments()).expect("valid") else { panic!("not bound") };
            assert_eq!(
                (again.schema.unwrap_or_default(), again.options),
                (bound.schema.unwrap_or_default(), bound.options)
            );
        };
        check("from_avro", &[text("\"int\"")], Some("\"int\""), "{}");
        check("from_avro", &[text("\"int\""), Null], Some("\"int\""), "{}");
        check(
            "from_avro",
            &[text("\"int\""), map(&[("mode", "PERMISSIVE")])],
            Some("\"int\""),
            r#"{"mode":"PERMISSIVE"}"#,
        );
        check("from_avro", &[text("\"int\""), Unknown], Some("\"int\""), "{}");
        check("to_avro", &[], None, "{}");
        check("to_avro", &[map(&[("recordName", "R")])], None, r#"{"recordName":"R"}"#);
        check(
            "from_avro",
            &[text("\"int\""), map(&[("schema.registry.address", "http://a")])],
            Some("\"int\""),
            r#"{"schema.registry.address":"http://a","schema.registry.request.timeout.ms":"9"}"#,
        );
    }

    #[test]
    fn registries_are_recognised() {
        let check = |function: &str, arguments: &[Argument], expect: &[(&str, &str)]| {
            let Call::Subject { options, .. } = called(function, arguments).expect("valid") else {
                panic!("{arguments:?}")
            };
            let found: Vec<_> = options.iter().filter(|(key, _)| !key.ends_with("timeout.ms")).collect();
            assert_eq!(found, expect);
        };
        let both = [("schema.registry.address", "http://a"), ("schema.registry.subject", "s")];
        check("from_avro", &[text("s"), text("http://a")], &both);
        check(
            "from_avro",
            &[text("s"), text("http://a"), map(&[("mode", "FAILFAST")])],
            &[("mode", "FAILFAST"), both[0], both[1]],
        );
        check("from_avro", &[text("s"), map(&[both[0]])], &both);
        check("to_avro", &[text("s"), text("http://a"), text("\"int\"")], &both);
        check("from_protobuf", &[text("User"), map(&both)], &both);
        check("to_protobuf", &[map(&both)], &both);
    }

    #[test]
    fn what_is_wrong_is_told() {
        let check = |function: &str, arguments: &[Argument], expect: &str| {
            let error = called(function, arguments).expect_err(expect).to_string();
            assert!(error.contains(expect), "{error}");
        };
        check("from_avro", &[], "from_avro(data, schema[, options])");
        check("from_avro", &[Unknown], "literals");
        check("from_avro", &[text("s"), text("http://a"), Unknown], "literals");
        check("from_protobuf", &[text("com.example.User")], "Java class");
        check("from_protobuf", &[Bytes(vec![])], "from_protobuf(data, message, descriptors[, options])");
    }
}
