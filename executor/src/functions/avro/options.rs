//! Options of `from_avro` and `to_avro`: Spark's `AvroOptions`, Databricks' `avroSchemaEvolutionMode`, and those of the
//! registry's serializers.

use super::types::Members;
use crate::connectors;
use crate::registry::{Config, registry_key};
use headwater_proto::error::{Error, Result};

/// Set by [`bind`](crate::functions::bind) alone: the id of the schema that the plan was made with.
pub const SCHEMA_ID: &str = "headwater.schema.id";
/// Set by [`bind`](crate::functions::bind) alone: what that schema refers to, in JSON.
pub const SCHEMA_REFERENCES: &str = "headwater.schema.references";

/// What to do with a record that cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Null in its place.
    Permissive,
    /// An error.
    FailFast,
}

/// What to do when the subject has a newer schema than the plan was made with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Evolution {
    /// Go on with the columns there are.
    None,
    /// Plan the query again.
    Restart,
}

/// Options of either function.
#[derive(Debug, Clone)]
pub struct Options {
    /// `mode`.
    pub mode: Mode,
    /// `avroSchema`: the schema to read into.
    pub reader_schema: Option<String>,
    /// `avroSchemaEvolutionMode`.
    pub evolution: Evolution,
    /// `enableStableIdentifiersForUnionType`, `stableIdentifierPrefixForUnionType`.
    pub members: Members,
    /// `recordName`.
    pub record_name: String,
    /// `recordNamespace`.
    pub record_namespace: String,
    /// `auto.register.schemas`.
    pub auto_register: bool,
    /// `use.latest.version`.
    pub use_latest: bool,
    /// The registry, when one is named.
    pub registry: Option<Config>,
    /// `schema.registry.subject`.
    pub subject: Option<String>,
    /// Of the schema that the plan was made with.
    pub schema_id: Option<u32>,
    /// What that schema refers to.
    pub references: Vec<(String, String)>,
}

impl Options {
    /// Reads options of `function`.
    ///
    /// # Errors
    /// Unknown options and those that cannot be honoured, by name.
    pub fn parse(function: &str, options: &connectors::Options) -> Result<Self> {
        let mut parsed = Self {
            mode: Mode::FailFast,
            reader_schema: None,
            evolution: Evolution::None,
            members: Members::Numbered,
            record_name: "topLevelRecord".into(),
            record_namespace: String::new(),
            auto_register: true,
            use_latest: false,
            registry: None,
            subject: None,
            schema_id: None,
            references: vec![],
        };
        let (mut stable, mut prefix, mut registry) = (false, "member_".to_string(), false);
        for (key, value) in options.iter() {
            if let Some(name) = registry_key(key) {
                registry = true;
                match name.as_str() {
                    "subject" => parsed.subject = Some(value.to_string()),
                    "schema.evolution.mode" => parsed.evolution = evolution(key, value)?,
                    "auto.register.schemas" => parsed.auto_register = boolean(key, value)?,
                    "use.latest.version" => parsed.use_latest = boolean(key, value)?,
                    _ => {}
                }
                continue;
            }
            let unsupported = |why: &str| {
                Err(Error::invalid("UNSUPPORTED_FEATURE.AVRO_OPTION", format!("{function}: option {key}: {why}")))
            };
            match key.to_ascii_lowercase().as_str() {
                "mode" => parsed.mode = mode(function, value)?,
                "avroschema" | "jsonformatschema" => parsed.reader_schema = Some(value.to_string()),
                "avroschemaevolutionmode" => parsed.evolution = evolution(key, value)?,
                "enablestableidentifiersforuniontype" => stable = boolean(key, value)?,
                "stableidentifierprefixforuniontype" => prefix = value.to_string(),
                "recordname" => parsed.record_name = value.to_string(),
                "recordnamespace" => parsed.record_namespace = value.to_string(),
                "auto.register.schemas" => parsed.auto_register = boolean(key, value)?,
                "use.latest.version" => parsed.use_latest = boolean(key, value)?,
                // They are of Avro files, and change nothing here, as in Spark.
                "compression" | "ignoreextension" => {}
                "positionalfieldmatching" => {
                    if boolean(key, value)? {
                        return unsupported("fields are found by name only");
                    }
                }
                "recursivefieldmaxdepth" => match value.trim().parse::<i64>() {
                    Ok(depth) if depth <= 0 => {}
                    Ok(_) => return unsupported("recursive schemas are not supported"),
                    Err(_) => return Err(invalid(key, value, "a whole number")),
                },
                "datetimerebasemode" => match value.to_ascii_uppercase().as_str() {
                    "CORRECTED" | "EXCEPTION" => {}
                    "LEGACY" => return unsupported("dates are of the Gregorian calendar (CORRECTED)"),
                    _ => return Err(invalid(key, value, "CORRECTED, EXCEPTION or LEGACY")),
                },
                "avroschemaurl" => return unsupported("give the schema itself, as avroSchema"),
                SCHEMA_ID => parsed.schema_id = value.parse().ok(),
                SCHEMA_REFERENCES => {
                    parsed.references = serde_json::from_str(value)
                        .map_err(|_| Error::internal("references of a schema in a plan cannot be read"))?;
                }
                _ => return unsupported("there is no such option: docs/schema-registry.md lists those there are"),
            }
        }
        if stable {
            parsed.members = Members::Named(prefix);
        }
        if registry {
            parsed.registry = Some(Config::from_options(options)?);
        }
        Ok(parsed)
    }
}

/// Reads a parse mode.
pub(crate) fn mode(function: &str, value: &str) -> Result<Mode> {
    match value.to_ascii_uppercase().as_str() {
        "PERMISSIVE" => Ok(Mode::Permissive),
        "FAILFAST" => Ok(Mode::FailFast),
        _ => Err(Error::invalid(
            "PARSE_MODE_UNSUPPORTED",
            format!(
                "the function `{function}` doesn't support the {value} mode: acceptable modes are PERMISSIVE and FAILFAST"
            ),
        )),
    }
}

/// Reads an evolution mode.
pub(crate) fn evolution(key: &str, value: &str) -> Result<Evolution> {
    match value.to_ascii_lowercase().as_str() {
        "none" => Ok(Evolution::None),
        "restart" => Ok(Evolution::Restart),
        _ => Err(invalid(key, value, "none or restart")),
    }
}

pub(crate) fn boolean(key: &str, value: &str) -> Result<bool> {
    match value.trim().to_ascii_lowercase().as_str() {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err(invalid(key, value, "true or false")),
    }
}

pub(crate) fn invalid(key: &str, value: &str, expected: &str) -> Error {
    Error::invalid("INVALID_PARAMETER_VALUE", format!("option {key}: {value:?} is not {expected}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_honoured_or_refused() {
        let parse =
            |pairs: &[(&str, &str)]| Options::parse("from_avro", &connectors::Options::new(pairs.iter().copied()));
        let read = parse(&[("MODE", "permissive"), ("enableStableIdentifiersForUnionType", "true")]).expect("valid");
        assert_eq!((read.mode, read.members), (Mode::Permissive, Members::Named("member_".into())));
        let read =
            parse(&[("schema.registry.address", "http://a"), ("auto.register.schemas", "false")]).expect("valid");
        assert!(read.registry.is_some() && !read.auto_register);
        for (key, value, expect) in [
            ("mode", "DROPMALFORMED", "DROPMALFORMED mode"),
            ("nope", "1", "option nope"),
            ("positionalFieldMatching", "true", "by name only"),
            ("recursiveFieldMaxDepth", "3", "recursive"),
            ("recursiveFieldMaxDepth", "x", "a whole number"),
            ("datetimeRebaseMode", "LEGACY", "Gregorian"),
            ("avroSchemaEvolutionMode", "merge", "none or restart"),
            ("schema.registry.subject", "s", "schema.registry.address"),
        ] {
            let error = parse(&[(key, value)]).expect_err(key).to_string();
            assert!(error.contains(expect), "{error}");
        }
    }
}
