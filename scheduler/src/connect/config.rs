//! Settings: the `Config` call, and what Spark's settings are while nobody sets them.
//!
//! Any key can be set and is kept: many are meant for connectors (`spark.cassandra.connection.host`), for Spark's
//! launcher (`spark.jars.packages`) or for parts of Spark that we have no use for. Those that Spark fixes when it starts
//! are refused, and values are checked where they count. What clients read without having set it has Spark's value.

use super::sessions::Session;
use headwater_proto::error::{Error, ErrorKind, Result};
use headwater_proto::spark::KeyValue;
use headwater_proto::spark::config_request::operation::OpType;
use std::collections::{BTreeMap, HashMap};
use std::sync::LazyLock;

/// What Spark knows of a setting.
#[derive(Debug, PartialEq, Eq)]
struct Known {
    default: Option<&'static str>,
    /// Fixed for a running server.
    fixed: bool,
}

/// Beside those that were recorded: what the server itself is, and keys of Spark Connect.
const OWN: &str = "
spark.app.name = headwater
spark.connect.session.planCompression.defaultAlgorithm = ZSTD
spark.connect.session.planCompression.threshold = 10485760
spark.master = headwater
spark.sql.connect.serverStacktrace.enabled = false
spark.sql.pyspark.jvmStacktrace.enabled = false
";

static KNOWN: LazyLock<HashMap<&'static str, Known>> =
    LazyLock::new(|| lines(include_str!("config_defaults.txt")).chain(lines(OWN)).collect());

fn lines(text: &'static str) -> impl Iterator<Item = (&'static str, Known)> {
    text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')).map(|line| {
        let (line, fixed) = line.strip_prefix('!').map_or((line, false), |line| (line, true));
        match line.split_once(" = ") {
            Some((key, value)) => (key, Known { default: Some(value), fixed }),
            None => (line, Known { default: None, fixed }),
        }
    })
}

/// Spark's value of a setting that was not set.
pub fn default_of(key: &str) -> Option<&'static str> {
    KNOWN.get(key)?.default
}

/// Does what a client asks; pairs and warnings are the answer.
///
/// # Errors
/// `SQL_CONF_NOT_FOUND`, `CANNOT_MODIFY_STATIC_CONFIG`, `INVALID_CONF_VALUE`.
pub fn apply(session: &Session, operation: OpType) -> Result<(Vec<KeyValue>, Vec<String>)> {
    let pair = |key: String, value: Option<String>| KeyValue { key, value };
    let mut warnings = vec![];
    let pairs = match operation {
        OpType::Set(set) => {
            let silent = set.silent();
            let pairs = set.pairs.into_iter().map(|pair| (pair.key, pair.value.unwrap_or_default()));
            if silent {
                // One that cannot be set is no reason to leave the others.
                for (key, value) in pairs {
                    if let Err(error) = session.change_conf(|conf| set_one(conf, &key, value)) {
                        warnings.push(super::error::message(&error));
                    }
                }
            } else {
                session
                    .change_conf(|conf| pairs.into_iter().try_for_each(|(key, value)| set_one(conf, &key, value)))?;
            }
            vec![]
        }
        OpType::Get(get) => {
            let found = get.keys.into_iter().map(|key| {
                let value = session.conf(&key);
                if value.is_none() && !KNOWN.contains_key(key.as_str()) {
                    return Err(not_found(&key));
                }
                Ok(pair(key, value))
            });
            found.collect::<Result<_>>()?
        }
        OpType::GetWithDefault(get) => {
            let found = get.pairs.into_iter().map(|asked| {
                // What was set, else the caller's default: Spark's own comes last, as in Spark.
                let value = session.sql().conf.get(&asked.key).cloned().or(asked.value);
                let value = value.or_else(|| session.conf(&asked.key));
                pair(asked.key, value)
            });
            found.collect()
        }
        OpType::GetOption(get) => {
            get.keys.into_iter().map(|key| (session.conf(&key), key)).map(|(v, k)| pair(k, v)).collect()
        }
        OpType::GetAll(get) => {
            let prefix = get.prefix.unwrap_or_default();
            let all = session.sql().conf.into_iter();
            all.filter_map(|(key, value)| Some(pair(key.strip_prefix(&prefix)?.to_string(), Some(value)))).collect()
        }
        OpType::Unset(unset) => {
            session.change_conf(|conf| {
                unset.keys.iter().try_for_each(|key| {
                    modifiable(key)?;
                    conf.remove(key);
                    Ok(())
                })
            })?;
            vec![]
        }
        OpType::IsModifiable(asked) => {
            let answers = asked.keys.into_iter().map(|key| {
                let modifiable = KNOWN.get(key.as_str()).is_some_and(|known| !known.fixed);
                pair(key, Some(modifiable.to_string()))
            });
            answers.collect()
        }
    };
    Ok((pairs, warnings))
}

fn set_one(conf: &mut BTreeMap<String, String>, key: &str, value: String) -> Result<()> {
    modifiable(key)?;
    check(key, &value)?;
    conf.insert(key.to_string(), value);
    Ok(())
}

fn modifiable(key: &str) -> Result<()> {
    match KNOWN.get(key) {
        Some(known) if known.fixed => Err(Error::invalid(
            "CANNOT_MODIFY_STATIC_CONFIG",
            format!("cannot modify the value of the static Spark config: \"{key}\""),
        )
        .with("key", format!("\"{key}\""))),
        _ => Ok(()),
    }
}

/// What Spark would not take for a setting that it knows.
fn check(key: &str, value: &str) -> Result<()> {
    let boolean = default_of(key).is_some_and(|default| default == "true" || default == "false");
    let valid = ["true", "false"].iter().any(|word| word.eq_ignore_ascii_case(value.trim()));
    if !boolean || valid {
        return Ok(());
    }
    Err(Error::invalid(
        "INVALID_CONF_VALUE.TYPE_MISMATCH",
        format!("the value '{value}' in the config \"{key}\" is invalid: it should be a/an 'boolean' value"),
    )
    .with("confName", key)
    .with("confValue", value)
    .with("confType", "boolean"))
}

fn not_found(key: &str) -> Error {
    Error::new(
        ErrorKind::NotFound,
        "SQL_CONF_NOT_FOUND",
        format!("the SQL config \"{key}\" cannot be found: verify that the config exists, or give a default"),
    )
    .with("sqlConf", format!("\"{key}\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sparks_defaults() {
        let check = |key: &str, expect: Option<&str>| assert_eq!(default_of(key), expect, "{key}");
        check("spark.sql.ansi.enabled", Some("true"));
        check("spark.sql.session.timeZone", Some("UTC"));
        check("spark.sql.session.localRelationCacheThreshold", Some("1048576"));
        check("spark.python.sql.dataFrameDebugging.enabled", Some("true"));
        check("spark.sql.optimizer.excludedRules", None);
        check("spark.nobody.knows", None);
        assert!(KNOWN.contains_key("spark.sql.optimizer.excludedRules"));
    }

    #[test]
    fn what_can_be_set() {
        let mut conf = BTreeMap::new();
        let mut check = |key: &str, value: &str, expect: Option<&str>| {
            let class = set_one(&mut conf, key, value.into()).err().map(|error| error.class);
            assert_eq!(class.as_deref(), expect, "{key}");
        };
        check("spark.jars.packages", "a:b:c", None);
        check("spark.sql.ansi.enabled", "False", None);
        check("spark.sql.ansi.enabled", "maybe", Some("INVALID_CONF_VALUE.TYPE_MISMATCH"));
        check("spark.sql.warehouse.dir", "/x", Some("CANNOT_MODIFY_STATIC_CONFIG"));
        assert_eq!(conf.len(), 2);
    }
}
