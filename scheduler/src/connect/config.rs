//! The `Config` call: settings of a session, which [`crate::session::settings`] knows.

use super::sessions::Session;
use crate::session::settings;
use headwater_proto::error::{Error, ErrorKind, Result};
use headwater_proto::spark::KeyValue;
use headwater_proto::spark::config_request::operation::OpType;

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
                    if let Err(error) = session.change_conf(|conf| settings::set(conf, &key, value)) {
                        warnings.push(super::error::message(&error));
                    }
                }
            } else {
                session.change_conf(|conf| {
                    pairs.into_iter().try_for_each(|(key, value)| settings::set(conf, &key, value))
                })?;
            }
            vec![]
        }
        OpType::Get(get) => {
            let found = get.keys.into_iter().map(|key| {
                let value = session.conf(&key);
                if value.is_none() && !settings::is_known(&key) {
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
            session.change_conf(|conf| unset.keys.iter().try_for_each(|key| settings::unset(conf, key)))?;
            vec![]
        }
        OpType::IsModifiable(asked) => {
            let answers = asked.keys.into_iter().map(|key| {
                let modifiable = settings::is_modifiable(&key);
                pair(key, Some(modifiable.to_string()))
            });
            answers.collect()
        }
    };
    Ok((pairs, warnings))
}

fn not_found(key: &str) -> Error {
    Error::new(
        ErrorKind::NotFound,
        "SQL_CONF_NOT_FOUND",
        format!("the SQL config \"{key}\" cannot be found: verify that the config exists, or give a default"),
    )
    .with("sqlConf", format!("\"{key}\""))
}
