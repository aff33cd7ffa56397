//! What is known of Spark's settings: their values while nobody sets them, and which may be set to what.
//!
//! Any key can be set and is kept: many are meant for connectors (`spark.cassandra.connection.host`), for Spark's
//! launcher (`spark.jars.packages`) or for parts of Spark that we have no use for. Those that Spark fixes when it starts
//! are refused, and values are checked where they count. What is read without having been set has Spark's value.

use headwater_proto::error::{Error, Result};
use std::collections::{BTreeMap, HashMap};
use std::sync::LazyLock;

/// What Spark knows of a setting.
#[derive(Debug, PartialEq, Eq)]
struct Known {
    default: Option<&'static str>,
    /// Fixed for a running server.
    fixed: bool,
}

/// Beside those that were recorded, and before them: what the server itself is, keys of Spark Connect, and the number of
/// partitions that plans have here.
const OWN: &str = "
spark.app.name = headwater
spark.connect.session.planCompression.defaultAlgorithm = ZSTD
spark.connect.session.planCompression.threshold = 10485760
spark.master = headwater
spark.sql.connect.serverStacktrace.enabled = false
spark.sql.pyspark.jvmStacktrace.enabled = false
spark.sql.shuffle.partitions = 16
";

static KNOWN: LazyLock<HashMap<&'static str, Known>> =
    LazyLock::new(|| lines(include_str!("defaults.txt")).chain(lines(OWN)).collect());

fn lines(text: &'static str) -> impl Iterator<Item = (&'static str, Known)> {
    text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')).map(|line| {
        let (line, fixed) = line.strip_prefix('!').map_or((line, false), |line| (line, true));
        match line.split_once(" = ") {
            Some((key, value)) => (key, Known { default: Some(value), fixed }),
            None => (line, Known { default: None, fixed }),
        }
    })
}

/// Whether Spark has such a setting.
pub fn is_known(key: &str) -> bool {
    KNOWN.contains_key(key)
}

/// Whether Spark has such a setting, and lets a session change it.
pub fn is_modifiable(key: &str) -> bool {
    KNOWN.get(key).is_some_and(|known| !known.fixed)
}

/// The value of a setting that was not set.
pub fn default_of(key: &str) -> Option<&'static str> {
    KNOWN.get(key)?.default
}

/// Sets one.
///
/// # Errors
/// `CANNOT_MODIFY_STATIC_CONFIG`, `INVALID_CONF_VALUE`.
pub fn set(conf: &mut BTreeMap<String, String>, key: &str, value: String) -> Result<()> {
    modifiable(key)?;
    check(key, &value)?;
    conf.insert(key.to_string(), value);
    Ok(())
}

/// Back to the default.
///
/// # Errors
/// `CANNOT_MODIFY_STATIC_CONFIG`.
pub fn unset(conf: &mut BTreeMap<String, String>, key: &str) -> Result<()> {
    modifiable(key)?;
    conf.remove(key);
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
        assert!(is_known("spark.sql.optimizer.excludedRules"));
    }

    #[test]
    fn the_number_of_partitions_that_is_shown_is_that_of_plans() {
        let acts = crate::session::session_config(&BTreeMap::new()).expect("is valid").target_partitions();
        assert_eq!(default_of("spark.sql.shuffle.partitions"), Some(acts.to_string().as_str()));
    }

    #[test]
    fn what_can_be_set() {
        let mut conf = BTreeMap::new();
        let mut check = |key: &str, value: &str, expect: Option<&str>| {
            let class = set(&mut conf, key, value.into()).err().map(|error| error.class);
            assert_eq!(class.as_deref(), expect, "{key}");
        };
        check("spark.jars.packages", "a:b:c", None);
        check("spark.sql.ansi.enabled", "False", None);
        check("spark.sql.ansi.enabled", "maybe", Some("INVALID_CONF_VALUE.TYPE_MISMATCH"));
        check("spark.sql.warehouse.dir", "/x", Some("CANNOT_MODIFY_STATIC_CONFIG"));
        assert_eq!(conf.len(), 2);
    }
}
