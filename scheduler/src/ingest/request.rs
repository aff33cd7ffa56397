//! What a client asks for: checked, compared with what a run of the same id was asked for, and kept without its secrets.

pub use headwater_executor::connectors::randomuser::WINDOW;
use headwater_executor::connectors::randomuser::{NATIONALITIES, PAGE_SIZE_MAX, PAGES_MAX, USERS_PER_WINDOW};
use headwater_executor::connectors::{Options, is_secret, without_credentials};
use headwater_proto::engine::StartIngestRequest;
use headwater_proto::error::{Error, Result};
use headwater_proto::secret::Secret;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use std::fmt;
use std::time::Duration;

/// The public API, by name.
pub const PUBLIC_SOURCE: &str = "randomuser";
const PUBLIC_HOST: &str = "randomuser.me";
const PUBLIC_HOST_WWW: &str = "www.randomuser.me";
/// Users a request asks for, unless told otherwise: 20 requests for what the public API gives in five minutes.
const PAGE_SIZE_DEFAULT: u32 = 1000;
/// How long a run tries without progress before it fails.
const RETRY_TIMEOUT: Duration = Duration::from_secs(120);
/// Long enough for the names that Airflow makes.
const RUN_ID_CHARS_MAX: usize = 250;
/// Option: how long a run tries without progress before it fails.
const RETRY_TIMEOUT_OPTION: &str = "headwater.retryTimeout";
/// Option: users that may be asked of the source in five minutes; 0 is no limit.
const USERS_PER_WINDOW_OPTION: &str = "headwater.usersPerWindow";
/// Option: partitions of a topic that is made; the broker's default otherwise.
const TOPIC_PARTITIONS_OPTION: &str = "headwater.topicPartitions";
/// Option: full name of the message that `protobuf` writes.
const MESSAGE_NAME_OPTION: &str = "headwater.protobuf.message";
/// Stands for a secret where a request is kept and compared: secrets may change between two tries of one run.
const HIDDEN: &str = "(secret)";

/// The form of a record's value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// A JSON object.
    Json,
    /// Avro in the wire format of the schema registry.
    Avro,
    /// Protobuf in the wire format of the schema registry.
    Protobuf,
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Json => "json",
            Self::Avro => "avro",
            Self::Protobuf => "protobuf",
        })
    }
}

/// A checked request. The file of a run keeps it whole; PostgreSQL gets [`Request::public`].
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Request {
    /// [`PUBLIC_SOURCE`], or the address of a mirror.
    pub source: String,
    /// To fetch; 0 with `publish_only`.
    pub users: u64,
    /// Where they are published.
    pub topic: String,
    /// The database.
    pub postgres: Secret,
    /// Brokers.
    pub kafka: String,
    /// As asked for; empty: made at the start of the run.
    pub seed: String,
    /// Nationalities, by comma, in upper case.
    pub nat: String,
    /// Users of a page.
    pub page_size: u32,
    /// Of a record's value.
    pub format: Format,
    /// Its address, or empty.
    pub schema_registry: String,
    /// Nothing is fetched.
    pub publish_only: bool,
    /// Replies are kept in staging.
    pub keep_raw: bool,
    /// `kafka.*`, `schema.registry.*` and ours.
    pub options: Options,
}

/// Without its secrets.
impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Request({})", self.public())
    }
}

/// A page of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Page {
    /// From 1, as the API counts.
    pub page: i32,
    /// Users that are asked for.
    pub users: i32,
}

fn invalid(field: &str, why: impl fmt::Display) -> Error {
    Error::invalid("INGEST_INVALID_REQUEST", format!("{field}: {why}"))
}

/// A run id that can be a name: printable, and not too long.
///
/// # Errors
/// `INGEST_INVALID_REQUEST`.
pub fn check_run_id(run_id: &str) -> Result<()> {
    if run_id.trim().is_empty() || run_id.chars().count() > RUN_ID_CHARS_MAX || run_id.chars().any(char::is_control) {
        return Err(invalid(
            "run_id",
            format!("{run_id:?} is no name: give up to {RUN_ID_CHARS_MAX} printable characters, or none"),
        ));
    }
    Ok(())
}

fn topic_name(topic: &str) -> Result<()> {
    let legal = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    if topic.is_empty() || topic.len() > 249 || !topic.chars().all(legal) || topic == "." || topic == ".." {
        return Err(invalid(
            "topic",
            format!("{topic:?} is no topic's name, which is made of letters, digits, '.', '_' and '-', 249 at most"),
        ));
    }
    Ok(())
}

fn http_address(field: &str, address: &str) -> Result<()> {
    match url::Url::parse(address) {
        Ok(url) if matches!(url.scheme(), "http" | "https") && url.has_host() => Ok(()),
        _ => Err(invalid(field, format!("{:?} is no http:// or https:// address", shown(address)))),
    }
}

/// An address for people: without its login, and what may be a secret in its query replaced.
fn shown(address: &str) -> String {
    let Some(scheme) = address.find("://") else { return without_credentials(address) };
    let begin = scheme + "://".len();
    // A login ends at the last @ before path, query and fragment, which may have one of their own. Where the address is
    // none, a password may hold anything.
    let end = match url::Url::parse(address) {
        Ok(_) => address[begin..].find(['/', '?', '#']).map_or(address.len(), |at| begin + at),
        Err(_) => address.len(),
    };
    let host = address[begin..end].rfind('@').map_or(begin, |at| begin + at + 1);
    without_credentials(&format!("{}{}", &address[..begin], &address[host..]))
}

impl Request {
    /// Checks a client's request. `postgres`: the scheduler's own setting, for a request that names none.
    ///
    /// # Errors
    /// `INGEST_INVALID_REQUEST` names the field and what is expected of it.
    pub fn parse(request: &StartIngestRequest, postgres: Option<&Secret>) -> Result<Self> {
        let source = match request.source.trim() {
            "" => PUBLIC_SOURCE,
            source => source,
        };
        if source != PUBLIC_SOURCE {
            if !source.contains("://") {
                return Err(invalid(
                    "source",
                    format!(
                        "there is no source {source:?}: give {PUBLIC_SOURCE} or the address of a mirror of its API"
                    ),
                ));
            }
            http_address("source", source)?;
        }
        topic_name(&request.topic)?;
        if request.kafka.trim().is_empty() {
            return Err(invalid("kafka", "name the brokers as HOST:PORT, several by comma"));
        }
        let postgres = match (request.postgres.trim(), postgres) {
            ("", Some(default)) if !default.is_empty() => default.clone(),
            ("", _) => {
                return Err(invalid(
                    "postgres",
                    "name the database as postgresql://USER:PASSWORD@HOST:PORT/DATABASE, or give the scheduler one by \
                     --postgres",
                ));
            }
            (address, _)
                if ["postgresql://", "postgres://", "jdbc:postgresql://"].iter().any(|p| address.starts_with(p)) =>
            {
                Secret::new(address)
            }
            // Not shown: what it is meant to be may hold a password.
            _ => return Err(invalid("postgres", "the address does not begin with postgresql://")),
        };
        let page_size = if request.page_size == 0 { PAGE_SIZE_DEFAULT } else { request.page_size };
        if u64::from(page_size) > PAGE_SIZE_MAX {
            return Err(invalid(
                "page_size",
                format!("{page_size} is more than the API gives at once, {PAGE_SIZE_MAX}"),
            ));
        }
        match (request.publish_only, request.users) {
            (true, 0) | (false, 1..) => {}
            (true, users) => {
                return Err(invalid(
                    "users",
                    format!("{users} cannot be fetched with publish_only: leave one of them out"),
                ));
            }
            (false, 0) => return Err(invalid("users", "say how many users to fetch, at least 1")),
        }
        if request.users.div_ceil(u64::from(page_size)) > PAGES_MAX {
            return Err(invalid(
                "users",
                format!(
                    "{} users are more than {PAGES_MAX} pages of {page_size}, beyond which the API repeats itself: take \
                     larger pages, or several runs",
                    request.users
                ),
            ));
        }
        let nat = nationalities(&request.nat)?;
        let format = match request.format.trim().to_ascii_lowercase().as_str() {
            "" | "json" => Format::Json,
            "avro" => Format::Avro,
            "protobuf" => Format::Protobuf,
            other => {
                return Err(invalid("format", format!("there is no format {other:?}: give json, avro or protobuf")));
            }
        };
        let schema_registry = request.schema_registry.trim();
        match (format, schema_registry.is_empty()) {
            (Format::Json, false) => {
                return Err(invalid("schema_registry", "json has no schema: give format avro or protobuf with it"));
            }
            (Format::Avro | Format::Protobuf, true) => {
                return Err(invalid(
                    "schema_registry",
                    format!("format {format} needs the address of a schema registry"),
                ));
            }
            (Format::Json, true) => {}
            (_, false) => http_address("schema_registry", schema_registry)?,
        }
        let mut options: Vec<_> = request.options.iter().collect();
        options.sort();
        let request = Self {
            source: source.to_string(),
            users: request.users,
            topic: request.topic.clone(),
            postgres,
            kafka: request.kafka.split(',').map(str::trim).collect::<Vec<_>>().join(","),
            seed: request.seed.clone(),
            nat,
            page_size,
            format,
            schema_registry: schema_registry.to_string(),
            publish_only: request.publish_only,
            keep_raw: request.keep_raw,
            options: Options::new(options.into_iter().map(|(key, value)| (key.as_str(), value.as_str()))),
        };
        request.check_options()?;
        Ok(request)
    }

    fn check_options(&self) -> Result<()> {
        for (key, value) in self.options.iter() {
            let lower = key.to_ascii_lowercase();
            if lower == "kafka.bootstrap.servers" {
                return Err(invalid("options", format!("{key} is what kafka says: leave it out")));
            }
            let ours = [RETRY_TIMEOUT_OPTION, USERS_PER_WINDOW_OPTION, TOPIC_PARTITIONS_OPTION, MESSAGE_NAME_OPTION];
            let known = ours.iter().any(|known| known.eq_ignore_ascii_case(key));
            if !known && !lower.starts_with("kafka.") && !lower.starts_with("schema.registry.") {
                return Err(invalid(
                    "options",
                    format!("there is no option {key}; there are kafka.*, schema.registry.*, {}", ours.join(", ")),
                ));
            }
            if known
                && lower == TOPIC_PARTITIONS_OPTION.to_ascii_lowercase()
                && !value.parse::<i32>().is_ok_and(|n| n > 0)
            {
                return Err(invalid("options", format!("{key} is {value:?}: give a number of 1 or more")));
            }
        }
        if self.format == Format::Json && self.options.iter().any(|(key, _)| key.starts_with("schema.registry.")) {
            return Err(invalid("options", "schema.registry.* is for format avro or protobuf"));
        }
        self.retry_timeout()?;
        self.users_per_window()?;
        Ok(())
    }

    /// Checks what a run that is new may not have: one that an earlier version began may, and goes on by
    /// [`Request::kafka_options`].
    ///
    /// # Errors
    /// `INGEST_INVALID_REQUEST` names the option.
    pub fn check_new(&self) -> Result<()> {
        for (key, value) in self.options.iter() {
            let refused = match key.to_ascii_lowercase().as_str() {
                "schema.registry.url" | "schema.registry.address" => Some("is what schema_registry says: leave it out"),
                _ => published_twice(key, value),
            };
            if let Some(why) = refused {
                return Err(invalid("options", format!("{key} {why}")));
            }
        }
        Ok(())
    }

    /// Options of a run of an earlier version that [`Request::kafka_options`] leaves out.
    pub fn left_out(&self) -> Vec<&str> {
        let left_out = self.options.iter().filter(|(key, value)| published_twice(key, value).is_some());
        left_out.map(|(key, _)| key).collect()
    }

    /// How long the run tries without progress.
    ///
    /// # Errors
    /// `INGEST_INVALID_REQUEST` when the option is no interval.
    pub fn retry_timeout(&self) -> Result<Duration> {
        let Some(text) = self.options.get(RETRY_TIMEOUT_OPTION) else { return Ok(RETRY_TIMEOUT) };
        crate::streaming::trigger::parse_interval(text)
            .map_err(|error| invalid("options", format!("{RETRY_TIMEOUT_OPTION} is {text:?}: {}", error.message)))
    }

    /// Whose limit counts: the public API however it is addressed, a mirror by its address without login and query.
    pub fn limited_as(&self) -> String {
        // By name it is no address.
        let Ok(mut url) = url::Url::parse(&self.source) else { return self.source.clone() };
        if let Some(PUBLIC_HOST | PUBLIC_HOST_WWW) = url.host_str().map(str::to_ascii_lowercase).as_deref() {
            return PUBLIC_SOURCE.to_string();
        }
        // An address without a host has no login to take away.
        let _ = (url.set_username(""), url.set_password(None));
        url.set_query(None);
        url.set_fragment(None);
        url.to_string()
    }

    /// Users that may be asked of the source in [`WINDOW`]; none: as many as it gives.
    ///
    /// # Errors
    /// `INGEST_INVALID_REQUEST` when the option is no number.
    pub fn users_per_window(&self) -> Result<Option<u64>> {
        let limit = match self.options.get(USERS_PER_WINDOW_OPTION) {
            Some(text) => text.trim().parse().map_err(|_| {
                invalid("options", format!("{USERS_PER_WINDOW_OPTION} is {text:?}: give a number; 0 is no limit"))
            })?,
            None if self.limited_as() == PUBLIC_SOURCE => USERS_PER_WINDOW,
            None => 0,
        };
        if limit > 0 && limit < u64::from(self.page_size) {
            return Err(invalid(
                "options",
                format!(
                    "{USERS_PER_WINDOW_OPTION} is {limit}, less than a page of {}: take smaller pages",
                    self.page_size
                ),
            ));
        }
        Ok((limit > 0).then_some(limit))
    }

    /// Partitions of the topic if it must be made; none: the broker's default.
    pub fn topic_partitions(&self) -> Option<i32> {
        self.options.get(TOPIC_PARTITIONS_OPTION).and_then(|text| text.parse().ok())
    }

    /// Full name of the message, for `protobuf`.
    pub fn message_name(&self) -> Option<&str> {
        self.options.get(MESSAGE_NAME_OPTION)
    }

    /// Options of a Kafka table on the run's brokers, but for those by which somebody could be published twice.
    pub fn kafka_options(&self) -> Options {
        let mut options = Options::new([("kafka.bootstrap.servers", self.kafka.as_str())]);
        for (key, value) in self.options.iter() {
            if key.to_ascii_lowercase().starts_with("kafka.") && published_twice(key, value).is_none() {
                options.set(key, value);
            }
        }
        options
    }

    /// The pages of the run, from 1; the last holds the rest.
    pub fn pages(&self) -> Vec<Page> {
        let size = u64::from(self.page_size);
        (0..self.users.div_ceil(size))
            .map(|index| Page { page: index as i32 + 1, users: (self.users - index * size).min(size) as i32 })
            .collect()
    }

    /// The request as anybody may see it: secrets hidden, the database left out.
    pub fn public(&self) -> Value {
        redacted(json!({
            "source": self.source,
            "users": self.users,
            "topic": self.topic,
            "kafka": self.kafka,
            "seed": self.seed,
            "nat": self.nat,
            "page_size": self.page_size,
            "format": self.format,
            "schema_registry": self.schema_registry,
            "publish_only": self.publish_only,
            "keep_raw": self.keep_raw,
            "options": self.options,
        }))
    }
}

/// Why somebody could be published twice with this option of Kafka, if so: that it does not happen rests on an idempotent
/// producer whose records are acknowledged by all, or given up in a time that is known.
fn published_twice(key: &str, value: &str) -> Option<&'static str> {
    match (key.to_ascii_lowercase().as_str(), value.trim()) {
        ("kafka.message.timeout.ms", _) => Some("is another name of kafka.delivery.timeout.ms: give that"),
        ("kafka.delivery.timeout.ms", time) if !time.parse::<i32>().is_ok_and(|ms| ms > 0) => {
            Some("is no number of 1 or more: a record that may arrive at any time may arrive twice")
        }
        ("kafka.enable.idempotence", on) if !on.eq_ignore_ascii_case("true") => {
            Some("is not true: retries would publish users twice")
        }
        ("kafka.max.in.flight" | "kafka.max.in.flight.requests.per.connection", count)
            if !count.parse::<u32>().is_ok_and(|count| (1..=5).contains(&count)) =>
        {
            Some("is not 1 to 5: retries would publish users twice")
        }
        ("kafka.retries" | "kafka.message.send.max.retries", "0") => Some("is 0: the producer would not be idempotent"),
        ("kafka.acks" | "kafka.request.required.acks", acks) if !["all", "-1"].contains(&acks) => {
            Some("is not all: what one broker alone has acknowledged may be lost")
        }
        _ => None,
    }
}

/// A request as [`Request::public`] has it, without its secrets. Twice is as good as once.
fn redacted(mut request: Value) -> Value {
    for field in ["source", "schema_registry"] {
        if let Some(Value::String(text)) = request.get_mut(field) {
            *text = shown(text);
        }
    }
    if let Some(Value::Object(options)) = request.get_mut("options") {
        for (key, value) in options.iter_mut() {
            if let Value::String(text) = value {
                *text = if hidden(key) { HIDDEN.to_string() } else { shown(text) };
            }
        }
    }
    request
}

/// Keys whose values are not kept outside the state directory.
fn hidden(key: &str) -> bool {
    is_secret(key) || key.to_ascii_lowercase().contains("user.info")
}

fn nationalities(text: &str) -> Result<String> {
    let mut all: Vec<String> =
        text.split(',').map(|nat| nat.trim().to_ascii_uppercase()).filter(|nat| !nat.is_empty()).collect();
    for nat in &all {
        if !NATIONALITIES.contains(&nat.as_str()) {
            return Err(invalid(
                "nat",
                format!("there is no nationality {nat:?}; there are {}", NATIONALITIES.join(", ")),
            ));
        }
    }
    all.sort();
    all.dedup();
    Ok(all.join(","))
}

/// What differs between what a run was asked for and a new request, as [`Request::public`] has them: names and values.
/// What an earlier version has written down may hold secrets, which are neither compared nor shown.
pub fn differences(known: &Value, new: &Value) -> Vec<String> {
    let (known, new) = (redacted(known.clone()), redacted(new.clone()));
    let empty = Map::new();
    let (known, new) = (known.as_object().unwrap_or(&empty), new.as_object().unwrap_or(&empty));
    let shown = |value: Option<&Value>| match value {
        None | Some(Value::Null) => "unset".to_string(),
        Some(Value::String(text)) => format!("{text:?}"),
        Some(value) => value.to_string(),
    };
    let mut found = vec![];
    for (key, value) in new {
        let before = known.get(key);
        if before == Some(value) {
            continue;
        }
        found.push(format!("{key} was {} and is {}", shown(before), shown(Some(value))));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    fn request() -> StartIngestRequest {
        StartIngestRequest {
            source: "randomuser".into(),
            users: 2500,
            topic: "users_created".into(),
            postgres: "postgresql://u:hunter2@h/d".into(),
            kafka: "k:9092".into(),
            ..StartIngestRequest::default()
        }
    }

    #[test]
    fn requests_are_checked() {
        let check = |change: fn(&mut StartIngestRequest), expect: &str| {
            let mut request = request();
            change(&mut request);
            let error = Request::parse(&request, None).and_then(|parsed| parsed.check_new()).expect_err(expect);
            assert_eq!(error.class, "INGEST_INVALID_REQUEST");
            assert!(error.message.contains(expect), "{error} has no {expect:?}");
            assert!(!error.message.contains("hunter2"), "{error}");
        };
        check(|r| r.source = "twitter".into(), "source: there is no source");
        check(|r| r.source = "ftp://u:hunter2@x/".into(), "source: \"ftp://x/\"");
        check(|r| r.source = "http://u:hunt/hunter2@x/".into(), "source: \"http://x/\"");
        check(|r| r.topic = "a b".into(), "topic: ");
        check(|r| r.topic.clear(), "topic: ");
        check(|r| r.kafka.clear(), "kafka: ");
        check(|r| r.postgres.clear(), "--postgres");
        check(|r| r.postgres = "u:hunter2@h".into(), "postgres: ");
        check(|r| r.users = 0, "users: ");
        check(|r| r.publish_only = true, "users: ");
        check(|r| r.page_size = 5001, "page_size: ");
        check(|r| r.users = 10_000_001, "beyond which the API repeats itself");
        check(|r| r.nat = "DE,XX".into(), "nat: there is no nationality \"XX\"");
        check(|r| r.format = "xml".into(), "format: ");
        check(|r| r.format = "avro".into(), "schema_registry: format avro needs");
        check(|r| r.schema_registry = "http://r".into(), "schema_registry: json has no schema");
        check(|r| _ = r.options.insert("seed".into(), "x".into()), "no option seed");
        check(|r| _ = r.options.insert("headwater.retryTimeout".into(), "soon".into()), "headwater.retryTimeout");
        check(|r| _ = r.options.insert("headwater.usersPerWindow".into(), "5".into()), "less than a page");
        check(|r| _ = r.options.insert("headwater.topicPartitions".into(), "0".into()), "headwater.topicPartitions");
        check(|r| _ = r.options.insert("kafka.bootstrap.servers".into(), "x".into()), "leave it out");
        let refused = [
            ("kafka.message.timeout.ms", "2000", "give that"),
            ("kafka.delivery.timeout.ms", "0", "1 or more"),
            ("Kafka.Delivery.Timeout.Ms", "5s", "1 or more"),
            ("kafka.enable.idempotence", "false", "is not true"),
            ("kafka.acks", "1", "is not all"),
            ("kafka.request.required.acks", "0", "is not all"),
            ("kafka.max.in.flight", "6", "is not 1 to 5"),
            ("kafka.max.in.flight.requests.per.connection", "many", "is not 1 to 5"),
            ("kafka.retries", "0", "is 0"),
        ];
        for (key, value, expect) in refused {
            let mut request = request();
            request.options.insert(key.into(), value.into());
            // Of a run of an earlier version they are left out.
            let parsed = Request::parse(&request, None).expect(key);
            let error = parsed.check_new().expect_err(key);
            assert!(error.message.contains(expect), "{error}");
            assert_eq!(parsed.left_out(), [key]);
            assert_eq!(parsed.kafka_options(), Options::new([("kafka.bootstrap.servers", "k:9092")]));
        }
        let mut good = request();
        good.options.insert("kafka.delivery.timeout.ms".into(), "5000".into());
        good.options.insert("kafka.enable.idempotence".into(), "true".into());
        good.options.insert("kafka.acks".into(), "all".into());
        let parsed = Request::parse(&good, None).expect("good");
        parsed.check_new().expect("good");
        assert!(parsed.left_out().is_empty());
        fn registry(request: &mut StartIngestRequest, key: &str) {
            (request.format, request.schema_registry) = ("avro".into(), "http://r".into());
            request.options.insert(key.into(), "http://u:hunter2@other".into());
        }
        check(|r| registry(r, "schema.registry.url"), "schema.registry.url is what schema_registry says");
        check(|r| registry(r, "Schema.Registry.Address"), "leave it out");
    }

    #[test]
    fn defaults() {
        let parsed = Request::parse(&request(), None).expect("good");
        assert_eq!((parsed.page_size, parsed.format), (1000, Format::Json));
        assert_eq!(parsed.users_per_window().expect("good"), Some(20_000));
        let pages: Vec<_> = parsed.pages().iter().map(|page| (page.page, page.users)).collect();
        assert_eq!(pages, [(1, 1000), (2, 1000), (3, 500)]);
        let own = Secret::new("postgresql://h/d");
        let mirror = StartIngestRequest { source: "http://m/api/".into(), postgres: String::new(), ..request() };
        let parsed = Request::parse(&mirror, Some(&own)).expect("good");
        assert_eq!((parsed.users_per_window().expect("good"), parsed.postgres), (None, own));
        let limited_as = |source: &str| {
            let parsed =
                Request::parse(&StartIngestRequest { source: source.into(), ..request() }, None).expect("good");
            (parsed.limited_as(), parsed.users_per_window().expect("good"))
        };
        assert_eq!(limited_as("https://randomuser.me/api/1.3/"), ("randomuser".into(), Some(20_000)));
        assert_eq!(limited_as("http://u:hunter2@m/api/"), ("http://m/api/".into(), None));
        assert_eq!(limited_as("http://m/api/?mail=a@b.org&token=hunter2"), ("http://m/api/".into(), None));
    }

    #[test]
    fn secrets_are_hidden() {
        let mut asked = request();
        asked.options = HashMap::from([
            ("kafka.sasl.password".to_string(), "hunter2".to_string()),
            ("kafka.linger.ms".to_string(), "5".to_string()),
        ]);
        let parsed = Request::parse(&asked, None).expect("good");
        let public = parsed.public();
        assert!(!public.to_string().contains("hunter2") && !format!("{parsed:?}").contains("hunter2"));
        assert_eq!(public["options"]["kafka.linger.ms"], "5");
        asked.source = "http://u:hunter2@m/api/?mail=a@b.org&token=hunter2&nat=de".into();
        asked.options.insert("kafka.sasl.oauthbearer.scope".into(), "https://h/?password=hunter2".into());
        asked.options.insert("kafka.client.id".into(), "https://u:hunter2@h/".into());
        let public = Request::parse(&asked, None).expect("good").public();
        assert!(!public.to_string().contains("hunter2"), "{public}");
        assert_eq!(public["source"], "http://m/api/?mail=a@b.org&token=*********(redacted)&nat=de");
        // What is kept reads back whole.
        let kept = serde_json::to_string(&parsed).expect("text");
        assert_eq!(serde_json::from_str::<Request>(&kept).expect("reads back"), parsed);
    }

    #[test]
    fn differences_are_named() {
        let known = Request::parse(&request(), None).expect("good").public();
        let check = |change: fn(&mut StartIngestRequest), expect: &[&str]| {
            let mut request = request();
            change(&mut request);
            let new = Request::parse(&request, None).expect("good").public();
            assert_eq!(differences(&known, &new), expect);
        };
        check(|_| {}, &[]);
        check(|r| r.postgres = "postgresql://u:other@h/d".into(), &[]);
        check(|r| r.users = 7, &["users was 2500 and is 7"]);
        check(
            |r| (r.topic, r.seed) = ("t".into(), "s".into()),
            &["topic was \"users_created\" and is \"t\"", "seed was \"\" and is \"s\""],
        );
        // What an earlier version wrote down of a request has the secrets of its addresses.
        let mut asked = request();
        asked.source = "http://m/api/?token=hunter2".into();
        asked.options.insert("kafka.client.id".into(), "https://u:hunter2@h/".into());
        let parsed = Request::parse(&asked, None).expect("good");
        let mut known = parsed.public();
        (known["source"], known["options"]) = (json!(parsed.source), json!(parsed.options));
        assert!(known.to_string().contains("hunter2"));
        assert!(differences(&known, &parsed.public()).is_empty());
        let found = differences(&known, &Request::parse(&request(), None).expect("good").public());
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(!found.concat().contains("hunter2"), "{found:?}");
    }
}
