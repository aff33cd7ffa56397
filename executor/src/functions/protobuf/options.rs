//! Options of `from_protobuf` and `to_protobuf`: Spark's `ProtobufOptions`, and Databricks' for a registry.

use crate::connectors;
use crate::functions::avro::options::{Evolution, Mode, SCHEMA_ID, boolean, evolution, invalid, mode};
use crate::registry::{Config, registry_key};
use headwater_proto::error::{Error, Result};

/// As in Spark: each level more multiplies the columns.
const DEPTH_MAX: i64 = 10;

/// Options of either function.
#[derive(Debug, Clone)]
pub struct Options {
    /// `mode`.
    pub mode: Mode,
    /// `recursive.fields.max.depth`: how often a message may stand inside itself; 0: never.
    pub depth_max: usize,
    /// `emit.default.values`.
    pub emit_defaults: bool,
    /// `enums.as.ints`.
    pub enums_as_ints: bool,
    /// `upcast.unsigned.ints`.
    pub upcast_unsigned: bool,
    /// `unwrap.primitive.wrapper.types`.
    pub unwrap: bool,
    /// `retain.empty.message.types`.
    pub retain_empty: bool,
    /// `schema.registry.schema.evolution.mode`.
    pub evolution: Evolution,
    /// `auto.register.schemas`.
    pub auto_register: bool,
    /// The registry, when one is named.
    pub registry: Option<Config>,
    /// `schema.registry.subject`.
    pub subject: Option<String>,
    /// `schema.registry.schema`: the text to register.
    pub text: Option<String>,
    /// Of the schema that the plan was made with.
    pub schema_id: Option<u32>,
}

impl Options {
    /// Reads options of `function`.
    ///
    /// # Errors
    /// Unknown options and those that cannot be honoured, by name.
    pub fn parse(function: &str, options: &connectors::Options) -> Result<Self> {
        let mut parsed = Self {
            mode: Mode::FailFast,
            depth_max: 0,
            emit_defaults: false,
            enums_as_ints: false,
            upcast_unsigned: false,
            unwrap: false,
            retain_empty: false,
            evolution: Evolution::None,
            auto_register: true,
            registry: None,
            subject: None,
            text: None,
            schema_id: None,
        };
        let mut registry = false;
        for (key, value) in options.iter() {
            if let Some(name) = registry_key(key) {
                registry = true;
                match name.as_str() {
                    "subject" => parsed.subject = Some(value.to_string()),
                    "schema" => parsed.text = Some(value.to_string()),
                    "schema.evolution.mode" => parsed.evolution = evolution(key, value)?,
                    "auto.register.schemas" => parsed.auto_register = boolean(key, value)?,
                    "use.latest.version" => boolean(key, value).map(drop)?,
                    _ => {}
                }
                continue;
            }
            let unsupported = |why: &str| {
                Err(Error::invalid("UNSUPPORTED_FEATURE.PROTOBUF_OPTION", format!("{function}: option {key}: {why}")))
            };
            match key.to_ascii_lowercase().as_str() {
                "mode" => parsed.mode = mode(function, value)?,
                "recursive.fields.max.depth" => match value.trim().parse::<i64>() {
                    Ok(depth) if depth <= DEPTH_MAX => parsed.depth_max = usize::try_from(depth).unwrap_or(0),
                    Ok(_) => return unsupported("it is at most 10"),
                    Err(_) => return Err(invalid(key, value, "a whole number")),
                },
                "emit.default.values" => parsed.emit_defaults = boolean(key, value)?,
                "enums.as.ints" => parsed.enums_as_ints = boolean(key, value)?,
                "upcast.unsigned.ints" => parsed.upcast_unsigned = boolean(key, value)?,
                "unwrap.primitive.wrapper.types" => parsed.unwrap = boolean(key, value)?,
                "retain.empty.message.types" => parsed.retain_empty = boolean(key, value)?,
                "auto.register.schemas" => parsed.auto_register = boolean(key, value)?,
                "convert.any.fields.to.json" => {
                    if boolean(key, value)? {
                        return unsupported("Any is read as STRUCT<type_url, value>");
                    }
                }
                SCHEMA_ID => parsed.schema_id = value.parse().ok(),
                _ => return unsupported("there is no such option: docs/schema-registry.md lists those there are"),
            }
        }
        if registry {
            parsed.registry = Some(Config::from_options(options)?);
        }
        Ok(parsed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_honoured_or_refused() {
        let parse =
            |pairs: &[(&str, &str)]| Options::parse("from_protobuf", &connectors::Options::new(pairs.iter().copied()));
        let read = parse(&[("Recursive.Fields.Max.Depth", "3"), ("enums.as.ints", "true")]).expect("valid");
        assert_eq!((read.depth_max, read.enums_as_ints), (3, true));
        assert_eq!(parse(&[("recursive.fields.max.depth", "-1")]).expect("valid").depth_max, 0);
        for (key, value, expect) in [
            ("recursive.fields.max.depth", "11", "at most 10"),
            ("convert.any.fields.to.json", "true", "STRUCT<type_url, value>"),
            ("nope", "1", "option nope"),
            ("mode", "DROPMALFORMED", "acceptable modes"),
            ("enums.as.ints", "1", "true or false"),
        ] {
            let error = parse(&[(key, value)]).expect_err(key).to_string();
            assert!(error.contains(expect), "{error}");
        }
    }
}
