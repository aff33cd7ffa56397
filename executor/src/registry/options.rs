//! Options by which a query names a schema registry: Databricks' names.
//!
//! Each key may be written `schema.registry.…` or `confluent.schema.registry.…`, in any case.

use crate::connectors::Options;
use headwater_proto::error::{Error, Result};
use std::fmt;
use std::time::Duration;

/// The two spellings of every key.
const PREFIXES: [&str; 2] = ["confluent.schema.registry.", "schema.registry."];

/// What stands before a value in a plan that would otherwise be readable there.
const MASK: &str = "masked:";

/// Where a registry is and how to get in. Equal ones share connections and caches.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Config {
    /// Base URLs, tried in order.
    pub addresses: Vec<String>,
    /// How requests are authorized.
    pub login: Login,
    /// Certificates that are trusted in place of the system's: PEM text.
    pub trusted: Option<String>,
    /// The client's own certificate and key: PEM text.
    pub identity: Option<String>,
    /// Whether the server's name must be that of its certificate.
    pub verify_name: bool,
    /// Limit of one connection attempt.
    pub connect_timeout: Duration,
    /// Limit of one request.
    pub read_timeout: Duration,
}

/// How requests are authorized.
#[derive(Clone, PartialEq, Eq, Hash)]
pub enum Login {
    /// Not at all.
    None,
    /// HTTP basic authentication.
    Basic {
        /// Name.
        user: String,
        /// Its password.
        password: String,
    },
    /// A bearer token.
    Token(String),
}

/// Secrets are never shown.
impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let login = match self.login {
            Login::None => "none",
            Login::Basic { .. } => "basic",
            Login::Token(_) => "token",
        };
        f.debug_struct("Config").field("addresses", &self.addresses).field("login", &login).finish_non_exhaustive()
    }
}

/// The part of an option's key behind `schema.registry.`, in lower case. None: no option of a registry.
pub fn registry_key(key: &str) -> Option<String> {
    let key = key.to_ascii_lowercase();
    PREFIXES.iter().find_map(|prefix| key.strip_prefix(prefix)).map(str::to_string)
}

/// The value of `schema.registry.<name>`, in either spelling.
pub fn registry_option<'a>(options: &'a Options, name: &str) -> Option<&'a str> {
    options.iter().find(|(key, _)| registry_key(key).as_deref() == Some(name)).map(|(_, value)| value)
}

/// Whether the value of this key is not to be shown.
fn is_secret(key: &str) -> bool {
    registry_key(key).is_some_and(|key| {
        key.ends_with("user.info")
            || key.ends_with("auth.token")
            || key.ends_with("password")
            || key.starts_with("ssl.keystore.key")
    })
}

/// Whether a value is masked: secrets, addresses with a login inside, and what looks masked already.
fn hides(key: &str, value: &str) -> bool {
    is_secret(key) || value.starts_with(MASK) || (registry_key(key).is_some() && value.contains('@'))
}

/// Options as text for a plan. Secrets are masked: whoever prints the plan does not show them. They are not encrypted,
/// as nothing in a plan on the wire is.
pub fn to_plan(options: &Options) -> String {
    let pairs = options.iter().map(|(key, value)| {
        let value = if hides(key, value) { format!("{MASK}{}", mask(value)) } else { value.to_string() };
        (key.to_string(), serde_json::Value::String(value))
    });
    serde_json::Value::Object(pairs.collect()).to_string()
}

/// Reads what [`to_plan`] wrote.
///
/// # Errors
/// Text that it did not write.
pub fn from_plan(text: &str) -> Result<Options> {
    let broken = || Error::internal("options of a function in a plan cannot be read");
    let pairs: serde_json::Map<String, serde_json::Value> = serde_json::from_str(text).map_err(|_| broken())?;
    let mut options = Options::default();
    for (key, value) in &pairs {
        let value = value.as_str().ok_or_else(broken)?;
        match value.strip_prefix(MASK) {
            Some(masked) => options.set(key, unmask(masked).ok_or_else(broken)?),
            None => options.set(key, value),
        }
    }
    Ok(options)
}

fn mask(value: &str) -> String {
    value.bytes().map(|byte| format!("{:02x}", byte ^ 0x5a)).collect()
}

fn unmask(text: &str) -> Option<String> {
    let digits = text.as_bytes().chunks(2);
    let bytes = digits.map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok().map(|byte| byte ^ 0x5a));
    String::from_utf8(bytes.collect::<Option<_>>()?).ok()
}

impl Config {
    /// The registry that options name. Options that are not a registry's are left to the caller.
    ///
    /// # Errors
    /// No address; keys that are unknown; what cannot be honoured, by name.
    pub fn from_options(options: &Options) -> Result<Self> {
        let mut config = Self {
            addresses: vec![],
            login: Login::None,
            trusted: None,
            identity: None,
            verify_name: true,
            connect_timeout: Duration::from_secs(5),
            read_timeout: Duration::from_secs(10),
        };
        let (mut user_info, mut token, mut basic_source, mut bearer_source) = (None, None, None, None);
        for (key, value) in options.iter() {
            let Some(name) = registry_key(key) else { continue };
            match name.as_str() {
                "address" | "url" => config.addresses = addresses(value)?,
                "basic.auth.user.info" => user_info = Some(value),
                "basic.auth.credentials.source" => basic_source = Some(value),
                "bearer.auth.token" => token = Some(value),
                "bearer.auth.credentials.source" => bearer_source = Some(value),
                "http.connect.timeout.ms" => config.connect_timeout = milliseconds(key, value)?,
                "http.read.timeout.ms" | "request.timeout.ms" => config.read_timeout = milliseconds(key, value)?,
                "ssl.truststore.location" | "ssl.ca.location" => {
                    pem_only(options, "ssl.truststore.type", key, value)?;
                    config.trusted = Some(pem_file(key, value)?);
                }
                "ssl.truststore.certificates" => config.trusted = Some(value.to_string()),
                "ssl.keystore.location" => {
                    pem_only(options, "ssl.keystore.type", key, value)?;
                    config.identity = Some(pem_file(key, value)?);
                }
                "ssl.endpoint.identification.algorithm" => {
                    config.verify_name = match value.trim().to_ascii_lowercase().as_str() {
                        "" | "none" => false,
                        "https" => true,
                        _ => return Err(invalid(key, "it is https, or empty for any name")),
                    }
                }
                // A PEM file of certificates has nothing that a password would open.
                "ssl.truststore.password" => {}
                // Read with the file that they describe.
                "ssl.truststore.type" | "ssl.keystore.type" => {}
                "ssl.keystore.password" | "ssl.key.password" => {
                    return Err(invalid(
                        key,
                        "encrypted keys cannot be read: write the key unencrypted (openssl pkcs8 -nocrypt) into a file \
                         that only the executors may read",
                    ));
                }
                // The caller's.
                "subject"
                | "schema"
                | "schema.evolution.mode"
                | "protobuf.name"
                | "use.latest.version"
                | "auto.register.schemas" => {}
                _ => {
                    return Err(invalid(key, "there is no such option: docs/schema-registry.md lists those there are"));
                }
            }
        }
        if config.addresses.is_empty() {
            return Err(Error::invalid(
                "SCHEMA_REGISTRY_CONFIGURATION_ERROR",
                "no schema registry is named: set the option schema.registry.address",
            ));
        }
        config.login = login(&mut config.addresses, user_info, token, basic_source, bearer_source)?;
        Ok(config)
    }

    /// The first address, for messages: never with a password.
    pub fn name(&self) -> &str {
        self.addresses.first().map_or("", String::as_str)
    }
}

fn invalid(key: &str, why: &str) -> Error {
    Error::invalid("SCHEMA_REGISTRY_CONFIGURATION_ERROR", format!("option {key}: {why}"))
}

fn milliseconds(key: &str, value: &str) -> Result<Duration> {
    match value.trim().parse::<u64>() {
        Ok(number) if number > 0 => Ok(Duration::from_millis(number)),
        _ => Err(invalid(key, "it is a number of milliseconds above 0")),
    }
}

fn addresses(value: &str) -> Result<Vec<String>> {
    let addresses: Vec<String> =
        value.split(',').map(|address| address.trim().trim_end_matches('/').to_string()).collect();
    for address in &addresses {
        let known =
            url::Url::parse(address).is_ok_and(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
        if !known {
            return Err(Error::invalid(
                "SCHEMA_REGISTRY_CONFIGURATION_ERROR",
                "the address of the schema registry is no URL: write http://HOST:PORT or https://HOST:PORT",
            ));
        }
    }
    Ok(addresses)
}

/// Takes user and password out of addresses, so that no message can show them.
fn login(
    addresses: &mut [String],
    user_info: Option<&str>,
    token: Option<&str>,
    basic_source: Option<&str>,
    bearer_source: Option<&str>,
) -> Result<Login> {
    let source_key = "confluent.schema.registry.basic.auth.credentials.source";
    let mut in_url = None;
    for address in addresses.iter_mut() {
        let Ok(mut url) = url::Url::parse(address) else { continue };
        if url.username().is_empty() && url.password().is_none() {
            continue;
        }
        in_url = Some((decoded(url.username()), decoded(url.password().unwrap_or_default())));
        // Neither fails for an http URL.
        let _ = url.set_username("");
        let _ = url.set_password(None);
        *address = url.as_str().trim_end_matches('/').to_string();
    }
    if bearer_source.is_some_and(|source| !source.eq_ignore_ascii_case("STATIC_TOKEN")) {
        return Err(invalid(
            "confluent.schema.registry.bearer.auth.credentials.source",
            "only STATIC_TOKEN is supported, with the token in bearer.auth.token",
        ));
    }
    if let Some(token) = token {
        if user_info.is_some() {
            return Err(invalid(
                "confluent.schema.registry.bearer.auth.token",
                "it excludes basic.auth.user.info: leave one out",
            ));
        }
        return Ok(Login::Token(token.to_string()));
    }
    match basic_source.map(str::to_ascii_uppercase).as_deref() {
        None | Some("USER_INFO") => {}
        Some("URL") if user_info.is_none() => {}
        Some("URL") => {
            return Err(invalid(source_key, "it is URL, and basic.auth.user.info is set too: leave one out"));
        }
        Some(_) => return Err(invalid(source_key, "only USER_INFO and URL are supported")),
    }
    let Some(user_info) = user_info else {
        return Ok(in_url.map_or(Login::None, |(user, password)| Login::Basic { user, password }));
    };
    match user_info.split_once(':') {
        Some((user, password)) => Ok(Login::Basic { user: user.to_string(), password: password.to_string() }),
        None => Err(invalid("confluent.schema.registry.basic.auth.user.info", "it is USER:PASSWORD")),
    }
}

fn decoded(text: &str) -> String {
    // `form_urlencoded` would read + as a space.
    let escaped = text.replace('+', "%2B");
    url::form_urlencoded::parse(format!("x={escaped}").as_bytes())
        .next()
        .map_or_else(String::new, |(_, value)| value.into_owned())
}

fn pem_only(options: &Options, type_name: &str, key: &str, path: &str) -> Result<()> {
    let path = path.to_ascii_lowercase();
    let pem = match registry_option(options, type_name) {
        Some(kind) => kind.eq_ignore_ascii_case("PEM"),
        None => !(path.ends_with(".jks") || path.ends_with(".p12") || path.ends_with(".pfx")),
    };
    if pem {
        return Ok(());
    }
    Err(invalid(key, "only PEM is read: export the certificates (keytool -exportcert -rfc) and name the PEM file"))
}

fn pem_file(key: &str, path: &str) -> Result<String> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| invalid(key, &format!("file {path} cannot be read on this machine: {error}")))?;
    if text.contains("-----BEGIN") { Ok(text) } else { Err(invalid(key, &format!("file {path} holds no PEM"))) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(pairs: &[(&str, &str)]) -> Result<Config> {
        Config::from_options(&Options::new(pairs.iter().copied()))
    }

    #[test]
    fn options_are_read_in_both_spellings() {
        let read = config(&[
            ("schema.registry.address", "http://a:8081/, http://b:8081"),
            ("Confluent.Schema.Registry.Basic.Auth.User.Info", "ann:pa:ss"),
            ("confluent.schema.registry.basic.auth.credentials.source", "USER_INFO"),
            ("schema.registry.http.read.timeout.ms", "1500"),
            ("mode", "FAILFAST"),
        ])
        .expect("valid");
        assert_eq!(read.addresses, ["http://a:8081", "http://b:8081"]);
        assert_eq!(read.read_timeout, Duration::from_millis(1500));
        assert!(read.login == Login::Basic { user: "ann".into(), password: "pa:ss".into() });
        assert!(!format!("{read:?}").contains("pa:ss"), "{read:?}");
    }

    #[test]
    fn a_login_in_the_address_is_taken_out() {
        let read = config(&[("schema.registry.address", "https://ann:p%40ss%2F1%20%C3%BC%25@host:1")]).expect("valid");
        assert!(read.login == Login::Basic { user: "ann".into(), password: "p@ss/1 ü%".into() });
        let read = config(&[("schema.registry.address", "https://ann:p%40+s@host:1")]).expect("valid");
        assert_eq!(read.name(), "https://host:1");
        assert!(read.login == Login::Basic { user: "ann".into(), password: "p@+s".into() });
    }

    #[test]
    fn what_is_wrong_is_named() {
        let address = ("schema.registry.address", "http://a");
        for (pairs, expect) in [
            (vec![], "set the option schema.registry.address"),
            (vec![("schema.registry.address", "host:8081")], "is no URL"),
            (vec![address, ("schema.registry.basic.auth.user.info", "hunter2")], "USER:PASSWORD"),
            (vec![address, ("schema.registry.nope", "1")], "schema.registry.nope"),
            (vec![address, ("schema.registry.ssl.truststore.location", "/t.jks")], "only PEM"),
            (vec![address, ("schema.registry.ssl.key.password", "hunter2")], "encrypted keys"),
            (vec![address, ("schema.registry.bearer.auth.credentials.source", "OAUTHBEARER")], "only STATIC_TOKEN"),
            (vec![address, ("schema.registry.basic.auth.credentials.source", "SASL_INHERIT")], "only USER_INFO"),
            (vec![address, ("schema.registry.http.read.timeout.ms", "0")], "milliseconds"),
        ] {
            let error = config(&pairs).expect_err(expect).to_string();
            assert!(error.contains(expect), "{error}");
            assert!(!error.contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn secrets_are_masked_in_plans() {
        let options = Options::new([
            ("schema.registry.basic.auth.user.info", "ann:geheim ü"),
            ("schema.registry.address", "http://a"),
            ("confluent.schema.registry.url", "http://eve:geheim@b"),
            ("mode", "masked:no"),
        ]);
        let text = to_plan(&options);
        assert!(text.contains("http://a") && !text.contains("geheim") && !text.contains("ann"), "{text}");
        let read = from_plan(&text).expect("what was written");
        assert_eq!(read.iter().collect::<Vec<_>>(), options.iter().collect::<Vec<_>>());
        for broken in ["", "[]", r#"{"a":1}"#, r#"{"schema.registry.bearer.auth.token":"masked:zz"}"#] {
            assert!(from_plan(broken).is_err(), "{broken}");
        }
    }
}
