//! Schema registries that speak Confluent's REST API.
//!
//! ```text
//! options ─► Config ─► Registry ─ by_id, latest, register, lookup ─► schema_registry_converter ─► HTTP
//!                        │ one for each Config in the process, with its caches
//!                        └ runtime: a thread of its own; `wait` for callers that are not async
//! ```
//!
//! What an id means never changes, so ids are cached for as long as there is room; what is the latest version of a
//! subject is asked every time. Requests run on a runtime of their own, so that a registry may be used from any thread,
//! and every one ends in bounded time.
//!
//! A registry that is away, or busy, is `Transient`; an id or a subject that it does not know is `NotFound`.

use crate::tls;
use headwater_proto::error::{Error, ErrorKind, Result};
use schema_registry_converter::async_impl::schema_registry::{SrSettings, perform_sr_call};
use schema_registry_converter::error::SRCError;
use schema_registry_converter::schema_registry_common::{RawError, RawRegisteredSchema, SrCall};
use std::collections::HashMap;
use std::error::Error as StdError;
use std::fmt;
use std::hash::Hash;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::runtime::{Handle, Runtime, RuntimeFlavor};

mod options;
#[cfg(test)]
pub(crate) mod tests;
pub mod wire;

pub use options::{Config, Login, from_plan, registry_key, registry_option, to_plan};

/// Schemas by id that one registry's cache holds.
const SCHEMAS_MAX: usize = 2_000;
/// Registries that a process knows at once.
const REGISTRIES_MAX: usize = 64;
/// How long an id that the registry does not know is not asked for again.
const UNKNOWN_KEPT: Duration = Duration::from_secs(10);
/// All attempts of one call together.
const CALL_MAX: Duration = Duration::from_secs(30);
/// Pauses before further attempts.
const PAUSES: [Duration; 2] = [Duration::from_millis(100), Duration::from_millis(500)];
/// Schemas that refer to schemas; deeper is a mistake.
const REFERENCES_MAX: usize = 200;

/// Languages of schemas.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// JSON of Avro.
    Avro,
    /// Text of a `.proto` file.
    Protobuf,
    /// JSON Schema.
    Json,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Kind::Avro => "AVRO",
            Kind::Protobuf => "PROTOBUF",
            Kind::Json => "JSON",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Kind::Avro => "Avro",
            Kind::Protobuf => "Protobuf",
            Kind::Json => "JSON",
        })
    }
}

/// A registered schema.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Schema {
    /// By which records name it.
    pub id: u32,
    /// Its language.
    pub kind: Kind,
    /// Its text.
    pub text: String,
    /// What it refers to, by the name it uses, dependencies first.
    pub references: Vec<(String, String)>,
    /// Under which subject it was found, where the registry says so.
    pub subject: Option<String>,
    /// Its number within the subject.
    pub version: Option<u32>,
}

/// A schema to register or to look up.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Definition {
    /// Its language.
    pub kind: Kind,
    /// Its text.
    pub text: String,
    /// What it refers to: name as the text has it, subject, version.
    pub references: Vec<(String, String, u32)>,
}

impl Definition {
    /// A schema that stands alone.
    pub fn new(kind: Kind, text: impl Into<String>) -> Self {
        Self { kind, text: text.into(), references: vec![] }
    }

    fn body(&self) -> String {
        let references = self
            .references
            .iter()
            .map(|(name, subject, version)| serde_json::json!({"name": name, "subject": subject, "version": version}));
        let references: Vec<_> = references.collect();
        let mut body = serde_json::json!({"schemaType": self.kind.name(), "schema": self.text});
        if !references.is_empty() {
            body["references"] = serde_json::Value::Array(references);
        }
        body.to_string()
    }
}

/// The subject of a topic's keys or values: Confluent's `TopicNameStrategy`.
pub fn topic_subject(topic: &str, key: bool) -> String {
    format!("{topic}-{}", if key { "key" } else { "value" })
}

/// One registry. Cheap to clone.
#[derive(Clone)]
pub struct Registry(Arc<Inner>);

struct Inner {
    config: Config,
    settings: SrSettings,
    cache: Mutex<Cache>,
}

#[derive(Default)]
struct Cache {
    by_id: Bounded<u32, Arc<Schema>>,
    ids: Bounded<(String, Definition), u32>,
    unknown: Bounded<u32, Instant>,
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.config.fmt(f)
    }
}

static REGISTRIES: LazyLock<Mutex<Bounded<Config, Registry>>> = LazyLock::new(Mutex::default);

static RUNTIME: LazyLock<std::io::Result<Runtime>> = LazyLock::new(|| {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).thread_name("schema-registry").enable_all().build()
});

impl Registry {
    /// The process's one for this configuration. Nothing is sent yet.
    ///
    /// # Errors
    /// Certificates that cannot be used.
    pub fn of(config: &Config) -> Result<Self> {
        let mut registries = REGISTRIES.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = registries.get(config) {
            return Ok(known.clone());
        }
        let registry =
            Self(Arc::new(Inner { settings: settings(config)?, config: config.clone(), cache: Mutex::default() }));
        registries.insert(config.clone(), registry.clone(), REGISTRIES_MAX);
        Ok(registry)
    }

    /// The address, for messages.
    pub fn name(&self) -> &str {
        self.0.config.name()
    }

    /// The schema that records name by `id`.
    ///
    /// # Errors
    /// `NotFound` for an id that the registry does not know, also when that was found out a moment ago.
    pub async fn by_id(&self, id: u32) -> Result<Arc<Schema>> {
        if let Some(known) = self.cached(id)? {
            return Ok(known);
        }
        let this = self.clone();
        let found = on_runtime(async move {
            let raw = this.call(&format!("schema {id}"), SrCall::GetById(id)).await?;
            this.resolved(raw, Some(id)).await
        })
        .await;
        let mut cache = self.cache();
        match found {
            Ok(schema) => {
                let schema = Arc::new(schema);
                cache.by_id.insert(id, Arc::clone(&schema), SCHEMAS_MAX);
                Ok(schema)
            }
            Err(error) => {
                if error.kind == ErrorKind::NotFound {
                    cache.unknown.insert(id, Instant::now(), SCHEMAS_MAX);
                }
                Err(error)
            }
        }
    }

    /// The schema of `id` if it is known here: no request is made.
    ///
    /// # Errors
    /// `NotFound` when the registry was asked for it a moment ago and did not know it.
    pub fn cached(&self, id: u32) -> Result<Option<Arc<Schema>>> {
        let mut cache = self.cache();
        if let Some(known) = cache.by_id.get(&id) {
            return Ok(Some(Arc::clone(known)));
        }
        match cache.unknown.get(&id) {
            Some(asked) if asked.elapsed() < UNKNOWN_KEPT => Err(Error::new(
                ErrorKind::NotFound,
                "SCHEMA_REGISTRY_NOT_FOUND",
                format!("schema registry {} knows no schema with id {id}", self.name()),
            )),
            _ => Ok(None),
        }
    }

    /// The latest version of a subject.
    ///
    /// # Errors
    /// `NotFound` when there is no such subject.
    pub async fn latest(&self, subject: &str) -> Result<Arc<Schema>> {
        let (this, subject) = (self.clone(), subject.to_string());
        let schema = on_runtime(async move {
            let raw = this.call(&format!("subject {subject}"), SrCall::GetLatest(&subject)).await?;
            this.resolved(raw, None).await
        })
        .await?;
        let schema = Arc::new(schema);
        self.cache().by_id.insert(schema.id, Arc::clone(&schema), SCHEMAS_MAX);
        Ok(schema)
    }

    /// Registers a schema under a subject, where it is not there yet, and returns its id.
    ///
    /// # Errors
    /// `SCHEMA_REGISTRY_INCOMPATIBLE_SCHEMA` with the registry's reasons.
    pub async fn register(&self, subject: &str, schema: &Definition) -> Result<u32> {
        self.id(subject, schema, true).await
    }

    /// The id of a schema that is registered under a subject.
    ///
    /// # Errors
    /// `NotFound` when it is not.
    pub async fn lookup(&self, subject: &str, schema: &Definition) -> Result<u32> {
        self.id(subject, schema, false).await
    }

    async fn id(&self, subject: &str, schema: &Definition, register: bool) -> Result<u32> {
        let key = (subject.to_string(), schema.clone());
        if let Some(id) = self.cache().ids.get(&key) {
            return Ok(*id);
        }
        let (this, asked) = (self.clone(), key.clone());
        let id = on_runtime(async move {
            let (subject, schema) = asked;
            let body = schema.body();
            let call =
                if register { SrCall::PostNew(&subject, &body) } else { SrCall::PostForVersion(&subject, &body) };
            let raw = this.call(&format!("subject {subject}"), call).await?;
            raw.id.ok_or_else(|| {
                Error::invalid(
                    "SCHEMA_REGISTRY_ERROR",
                    format!("schema registry {} answered without an id for subject {subject}", this.name()),
                )
            })
        })
        .await?;
        self.cache().ids.insert(key, id, SCHEMAS_MAX);
        Ok(id)
    }

    fn cache(&self) -> std::sync::MutexGuard<'_, Cache> {
        self.0.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn call(&self, what: &str, call: SrCall<'_>) -> Result<RawRegisteredSchema> {
        let mut pauses = PAUSES.iter();
        loop {
            let error = match perform_sr_call(&self.0.settings, call).await {
                Ok(raw) => return Ok(raw),
                Err(error) => explained(&error, self.name(), what),
            };
            match pauses.next() {
                Some(pause) if error.kind == ErrorKind::Transient => tokio::time::sleep(*pause).await,
                _ => return Err(error),
            }
        }
    }

    /// Fetches what a schema refers to, and what that refers to.
    async fn resolved(&self, raw: RawRegisteredSchema, id: Option<u32>) -> Result<Schema> {
        let incomplete = |what: &str| {
            Error::invalid("SCHEMA_REGISTRY_ERROR", format!("schema registry {} sent no {what}", self.name()))
        };
        let kind = match raw.schema_type.as_deref() {
            None | Some("AVRO") => Kind::Avro,
            Some("PROTOBUF") => Kind::Protobuf,
            Some("JSON") => Kind::Json,
            Some(other) => {
                return Err(Error::invalid(
                    "SCHEMA_REGISTRY_ERROR",
                    format!("schema registry {} sent a schema of type {other}, which is not known here", self.name()),
                ));
            }
        };
        let mut schema = Schema {
            id: raw.id.or(id).ok_or_else(|| incomplete("id"))?,
            kind,
            text: raw.schema.ok_or_else(|| incomplete("schema"))?,
            references: vec![],
            subject: raw.subject,
            version: raw.version,
        };
        // Visited twice: on the way down its own references are put on the stack, on the way back it is kept.
        let mut todo: Vec<(String, String, u32, Option<String>)> = raw
            .references
            .unwrap_or_default()
            .into_iter()
            .rev()
            .map(|reference| (reference.name, reference.subject, reference.version, None))
            .collect();
        let mut fetched = 0;
        while let Some((name, subject, version, text)) = todo.pop() {
            if schema.references.iter().any(|(known, _)| *known == name) {
                continue;
            }
            if let Some(text) = text {
                schema.references.push((name, text));
                continue;
            }
            fetched += 1;
            if fetched > REFERENCES_MAX {
                return Err(Error::invalid(
                    "SCHEMA_REGISTRY_ERROR",
                    format!("schema {} refers to more than {REFERENCES_MAX} schemas, or in a circle", schema.id),
                ));
            }
            let what = format!("version {version} of subject {subject}");
            let raw = self.call(&what, SrCall::GetBySubjectAndVersion(&subject, version)).await?;
            let text = raw.schema.ok_or_else(|| incomplete("schema"))?;
            todo.push((name, subject, version, Some(text)));
            let inner = raw.references.unwrap_or_default().into_iter().rev();
            todo.extend(inner.map(|reference| (reference.name, reference.subject, reference.version, None)));
        }
        Ok(schema)
    }
}

fn settings(config: &Config) -> Result<SrSettings> {
    tls::install_provider();
    let invalid = |what: &str| {
        // Never the error itself, which may quote what it could not read.
        Error::invalid("SCHEMA_REGISTRY_CONFIGURATION_ERROR", format!("schema registry {}: {what}", config.name()))
    };
    // A registry is not on the other side of a web proxy that happens to be in the environment.
    let mut client = reqwest::Client::builder().connect_timeout(config.connect_timeout).no_proxy();
    if let Some(trusted) = &config.trusted {
        let certificates = reqwest::Certificate::from_pem_bundle(trusted.as_bytes())
            .map_err(|_| invalid("the truststore's certificates cannot be read: they must be PEM"))?;
        client = client.tls_certs_only(certificates);
    }
    if let Some(identity) = &config.identity {
        let identity = reqwest::Identity::from_pem(identity.as_bytes()).map_err(|_| {
            invalid("the keystore cannot be read: it must be PEM with the certificates and the unencrypted key")
        })?;
        client = client.identity(identity);
    }
    if !config.verify_name {
        client = client.tls_danger_accept_invalid_hostnames(true);
    }
    let mut builder = SrSettings::new_builder(config.name().to_string());
    for address in config.addresses.iter().skip(1) {
        builder.add_url(address.clone());
    }
    match &config.login {
        Login::None => {}
        Login::Basic { user, password } => {
            builder.set_basic_authorization(user, Some(password));
        }
        Login::Token(token) => {
            builder.set_token_authorization(token);
        }
    }
    builder
        .set_timeout(config.read_timeout)
        .build_with(client)
        .map_err(|_| invalid("no HTTPS client can be made with these certificates"))
}

/// What the registry's answer, or its silence, says to do.
fn explained(error: &SRCError, registry: &str, what: &str) -> Error {
    let raw = error.source().and_then(|source| source.downcast_ref::<RawError>());
    let said = raw.map(|raw| raw.message.as_str()).unwrap_or_default();
    let code = raw.map_or(0, |raw| raw.error_code);
    let status = error.error.rsplit_once("failed with status ").and_then(|(_, status)| status.get(..3)?.parse().ok());
    let place = format!("schema registry {registry}");
    match status.unwrap_or(0_u16) {
        401 | 403 => Error::invalid(
            "SCHEMA_REGISTRY_AUTHENTICATION_FAILED",
            format!(
                "{place} refused access to {what}: check confluent.schema.registry.basic.auth.user.info and the rights \
                 of this user"
            ),
        ),
        404 if (40401..=40499).contains(&code) => Error::new(
            ErrorKind::NotFound,
            "SCHEMA_REGISTRY_NOT_FOUND",
            format!("{place} does not know {what}: {said}"),
        ),
        404 => Error::invalid(
            "SCHEMA_REGISTRY_CONFIGURATION_ERROR",
            format!("{place} has no such path: check the address, which ends where /subjects begins"),
        ),
        409 => Error::invalid(
            "SCHEMA_REGISTRY_INCOMPATIBLE_SCHEMA",
            format!("{place} refuses the schema for {what}, since it is not compatible with those registered: {said}"),
        ),
        400 | 422 => {
            Error::invalid("SCHEMA_REGISTRY_INVALID_SCHEMA", format!("{place} refuses the request for {what}: {said}"))
        }
        status @ (408 | 429 | 500..=599) => Error::transient(
            "SCHEMA_REGISTRY_UNREACHABLE",
            format!("{place} cannot serve {what} now (status {status}): {said}"),
        ),
        0 if error.retriable => {
            let cause = chain(error);
            if cause.to_ascii_lowercase().contains("certificate") {
                return Error::invalid(
                    "SCHEMA_REGISTRY_CONFIGURATION_ERROR",
                    format!(
                        "{place} has a certificate that is not trusted: name its authority in \
                         confluent.schema.registry.ssl.truststore.location ({cause})"
                    ),
                );
            }
            Error::transient("SCHEMA_REGISTRY_UNREACHABLE", format!("{place} cannot be reached for {what}: {cause}"))
        }
        0 => Error::invalid(
            "SCHEMA_REGISTRY_ERROR",
            format!("{place} sent no answer of a schema registry for {what}: check the address"),
        ),
        status => Error::invalid("SCHEMA_REGISTRY_ERROR", format!("{place}: status {status} for {what}: {said}")),
    }
}

/// The innermost cause: what is above it repeats the URL.
fn chain(error: &SRCError) -> String {
    let mut cause: &dyn StdError = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}

/// Runs a call on the registries' own runtime, whichever runtime asks.
async fn on_runtime<T: Send + 'static>(call: impl Future<Output = Result<T>> + Send + 'static) -> Result<T> {
    let runtime =
        RUNTIME.as_ref().map_err(|error| Error::internal(format!("no thread for schema registries: {error}")))?;
    let bounded = async {
        tokio::time::timeout(CALL_MAX, call).await.unwrap_or_else(|_| {
            Err(Error::transient(
                "SCHEMA_REGISTRY_UNREACHABLE",
                format!("the schema registry did not answer within {} s", CALL_MAX.as_secs()),
            ))
        })
    };
    runtime
        .spawn(bounded)
        .await
        .map_err(|error| Error::internal(format!("a call of a schema registry ended: {error}")))?
}

/// Waits for a registry where the caller cannot be async: in a function, while planning. The caller's runtime goes on
/// on other threads, and the wait is as bounded as the calls are.
///
/// # Errors
/// Those of the call.
pub fn wait<T: Send + 'static>(call: impl Future<Output = Result<T>> + Send + 'static) -> Result<T> {
    let (sender, receiver) = std::sync::mpsc::sync_channel(1);
    let runtime =
        RUNTIME.as_ref().map_err(|error| Error::internal(format!("no thread for schema registries: {error}")))?;
    runtime.spawn(async move {
        // Nobody waits any more when this fails.
        let _ = sender.send(call.await);
    });
    let receive =
        move || receiver.recv().map_err(|_| Error::internal("a call of a schema registry ended without an answer"))?;
    match Handle::try_current() {
        Ok(handle) if handle.runtime_flavor() == RuntimeFlavor::MultiThread => tokio::task::block_in_place(receive),
        _ => receive(),
    }
}

/// A map that forgets its oldest entry for a new one.
pub(crate) struct Bounded<K, V> {
    entries: HashMap<K, (u64, V)>,
    next: u64,
}

impl<K, V> Default for Bounded<K, V> {
    fn default() -> Self {
        Self { entries: HashMap::new(), next: 0 }
    }
}

impl<K: Eq + Hash + Clone, V> Bounded<K, V> {
    /// The value, which is the youngest now.
    pub(crate) fn get(&mut self, key: &K) -> Option<&V> {
        let (used, value) = self.entries.get_mut(key)?;
        self.next += 1;
        *used = self.next;
        Some(value)
    }
    pub(crate) fn insert(&mut self, key: K, value: V, max: usize) {
        if self.entries.len() >= max && !self.entries.contains_key(&key) {
            let oldest = self.entries.iter().min_by_key(|(_, (used, _))| *used).map(|(key, _)| key.clone());
            oldest.and_then(|key| self.entries.remove(&key));
        }
        self.next += 1;
        self.entries.insert(key, (self.next, value));
    }
}
