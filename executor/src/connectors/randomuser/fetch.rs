//! One page from the service: asked for until it is whole, or for good.
//!
//! Every way in which the service fails is told apart: no connection, no answer in time, a status, a body that ends
//! early, an error in a good status, a page of another size. All but a refusal are tried again, each after a pause that
//! doubles and is left half to chance; what the service asks for in `Retry-After` is honoured for the whole process.

use super::limiter::pause as pause_all;
use super::options::Page;
use crate::connectors::without_credentials;
use crate::tls;
use headwater_proto::error::{Error, ErrorKind, Result};
use rand::Rng;
use reqwest::{Client, Response, StatusCode, header};
use serde_json::Value;
use std::collections::HashMap;
use std::error::Error as _;
use std::sync::{LazyLock, Mutex, PoisonError};
use std::time::Duration;
use url::Url;

/// A page of 5,000 users has 6 MB; more than this is something else.
const BODY_BYTES_MAX: usize = 64 << 20;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Class of the error of a service that was asked too often.
pub const TOO_MANY_REQUESTS: &str = "RANDOMUSER_TOO_MANY_REQUESTS";
/// Stands in its message before the seconds: what crosses a process border of an error is class and message.
const RETRY_AFTER: &str = "retry after ";

/// How a message says when the service wants to be asked again: [`pause_asked`] reads it.
pub fn come_back(pause: Duration) -> String {
    format!("{RETRY_AFTER}{} s", pause.as_secs_f64().ceil())
}

/// How long the service wants to be left alone, by its error; none: it has not said so, or not for how long.
pub fn pause_asked(error: &Error) -> Option<Duration> {
    let (_, rest) = error.message.split_once(RETRY_AFTER).filter(|_| error.class == TOO_MANY_REQUESTS)?;
    let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().ok().map(Duration::from_secs)
}

/// What a request depends on.
#[derive(Debug, Clone)]
pub struct Service {
    /// The address.
    pub url: Url,
    /// Seed of all pages.
    pub seed: String,
    /// Nationalities, by comma.
    pub nat: Option<String>,
    /// Time for a request and its whole reply.
    pub timeout: Duration,
    /// The longest pause that is waited for here; zero: "too many requests" is told at once, whatever the pause.
    pub retry_after_max: Duration,
    /// Times a request is repeated.
    pub retries_max: u32,
}

/// Why a page did not come.
#[derive(Debug, Clone, PartialEq)]
enum Failure {
    /// No connection, or no whole answer.
    Line(String),
    /// A status of the server's own fault, a reply that is none, an error in its place.
    Reply(String),
    /// Another number of users than was asked for.
    Count(String),
    /// Asked too often; when to come back.
    TooMany(Option<Duration>),
    /// Asked wrongly: it will be no better.
    Refused(String),
}

impl Service {
    /// By which clients are counted there, and for messages.
    pub fn name(&self) -> String {
        format!("{}{}", self.url.origin().ascii_serialization(), self.url.path())
    }

    fn request(&self, page: Page) -> Url {
        let mut url = self.url.clone();
        let mut query = url.query_pairs_mut();
        query.append_pair("results", &page.results.to_string());
        query.append_pair("page", &page.page.to_string());
        query.append_pair("seed", &self.seed);
        if let Some(nat) = &self.nat {
            query.append_pair("nat", nat);
        }
        drop(query);
        url
    }

    fn error(&self, failure: &Failure, page: Page, retries: u32) -> Error {
        let (kind, class, why) = match failure {
            Failure::Line(why) => (ErrorKind::Transient, "RANDOMUSER_UNREACHABLE", why.clone()),
            Failure::Reply(why) => (ErrorKind::Transient, "RANDOMUSER_FAILED", why.clone()),
            Failure::Count(why) => (ErrorKind::Transient, "RANDOMUSER_WRONG_COUNT", why.clone()),
            Failure::TooMany(after) => {
                let after = after.unwrap_or(self.retry_after_max);
                let when = if after.is_zero() { "retry later".to_string() } else { come_back(after) };
                let why = format!("it was asked too often: {when}, or lower option usersPerWindow");
                (ErrorKind::Transient, TOO_MANY_REQUESTS, why)
            }
            Failure::Refused(why) => (ErrorKind::InvalidRequest, "RANDOMUSER_REFUSED", why.clone()),
        };
        let after = if retries > 0 { format!(" (after {retries} retries)") } else { String::new() };
        Error::new(kind, class, format!("failed to fetch page {} from {}: {why}{after}", page.page, self.name()))
    }

    /// The users of a page, as they came.
    ///
    /// # Errors
    /// When trying again is of no use or was done often enough.
    pub async fn fetch(&self, page: Page) -> Result<Vec<Value>> {
        let client = client()?;
        let mut retries = 0;
        loop {
            let failure = match self.once(&client, page).await {
                Ok(users) => return Ok(users),
                Err(failure) => failure,
            };
            let pause = match &failure {
                Failure::Refused(_) => None,
                Failure::TooMany(_) if self.retry_after_max.is_zero() => None,
                Failure::TooMany(Some(after)) if *after > self.retry_after_max => None,
                Failure::TooMany(Some(after)) => Some(*after),
                _ => Some(Duration::ZERO),
            };
            let Some(least) = pause.filter(|_| retries < self.retries_max) else {
                return Err(self.error(&failure, page, retries));
            };
            if let Failure::TooMany(_) = failure {
                pause_all(&self.name(), least);
            }
            let pause = least + backoff(retries, rand::rng().random());
            tracing::debug!(page = page.page, ?failure, retries, ?pause, "a page did not come, will ask again");
            tokio::time::sleep(pause).await;
            retries += 1;
        }
    }

    async fn once(&self, client: &Client, page: Page) -> Result<Vec<Value>, Failure> {
        let reply = client.get(self.request(page)).timeout(self.timeout).send().await.map_err(|e| line(&e))?;
        judged(reply.status(), reply.headers())?;
        let body = body(reply).await?;
        users(&body, page, &self.seed)
    }
}

/// A failed connection in words, without the address, which may hold a login.
fn line(error: &reqwest::Error) -> Failure {
    let mut text = String::new();
    let mut cause: Option<&(dyn std::error::Error + 'static)> = error.source();
    while let Some(inner) = cause {
        text.push_str(if text.is_empty() { "" } else { ": " });
        text.push_str(&inner.to_string());
        cause = inner.source();
    }
    let kind = if error.is_timeout() {
        "no whole answer in time"
    } else if error.is_connect() {
        "no connection"
    } else if error.is_body() || error.is_decode() {
        "the answer ended early"
    } else {
        "the request failed"
    };
    Failure::Line(without_credentials(&if text.is_empty() { kind.to_string() } else { format!("{kind}: {text}") }))
}

/// The time in a `Retry-After`: seconds, or a date.
fn retry_after(text: &str, now: chrono::DateTime<chrono::Utc>) -> Option<Duration> {
    if let Ok(seconds) = text.trim().parse::<u64>() {
        return Some(Duration::from_secs(seconds));
    }
    let at = chrono::DateTime::parse_from_rfc2822(text.trim()).ok()?;
    Some((at.to_utc() - now).to_std().unwrap_or_default())
}

/// What the status alone says.
fn judged(status: StatusCode, headers: &header::HeaderMap) -> Result<(), Failure> {
    let after = headers.get(header::RETRY_AFTER).and_then(|value| value.to_str().ok());
    let after = after.and_then(|text| retry_after(text, chrono::Utc::now()));
    match status {
        StatusCode::OK => Ok(()),
        StatusCode::TOO_MANY_REQUESTS => Err(Failure::TooMany(after)),
        StatusCode::SERVICE_UNAVAILABLE if after.is_some() => Err(Failure::TooMany(after)),
        StatusCode::REQUEST_TIMEOUT => Err(Failure::Reply(format!("status {status}"))),
        status if status.is_client_error() => Err(Failure::Refused(format!("status {status}: check option url"))),
        status => Err(Failure::Reply(format!("status {status}"))),
    }
}

async fn body(mut reply: Response) -> Result<Vec<u8>, Failure> {
    let mut body = vec![];
    while let Some(chunk) = reply.chunk().await.map_err(|error| line(&error))? {
        if body.len() + chunk.len() > BODY_BYTES_MAX {
            return Err(Failure::Reply(format!("an answer of more than {BODY_BYTES_MAX} bytes")));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// The users in a reply, when it is that of this page.
fn users(body: &[u8], page: Page, seed: &str) -> Result<Vec<Value>, Failure> {
    // Not what is wrong with it in its words: they quote it, passwords included.
    let mut reply: Value = serde_json::from_slice(body).map_err(|error| {
        let what = if error.is_eof() { "a JSON that ends early" } else { "no JSON" };
        Failure::Reply(format!("the answer is {what} (line {}, column {})", error.line(), error.column()))
    })?;
    if let Some(why) = reply.get("error") {
        let why = why.as_str().map_or_else(|| why.to_string(), String::from);
        return Err(Failure::Reply(format!("it answers with an error: {}", why.chars().take(200).collect::<String>())));
    }
    let about = reply.get("info").cloned().unwrap_or(Value::Null);
    let Some(Value::Array(users)) = reply.get_mut("results").map(Value::take) else {
        return Err(Failure::Reply("the answer has no results".into()));
    };
    if users.len() != page.results as usize {
        return Err(Failure::Count(format!("{} users in place of {}", users.len(), page.results)));
    }
    // The service replaces what it does not like without a word.
    let other_page = about.get("page").and_then(Value::as_u64).filter(|found| *found != u64::from(page.page));
    let other_seed = about.get("seed").and_then(Value::as_str).filter(|found| *found != seed);
    match (other_page, other_seed) {
        (None, None) => Ok(users),
        (Some(found), _) => Err(Failure::Count(format!("page {found} in place of {}", page.page))),
        (_, Some(_)) => Err(Failure::Count("users of another seed".into())),
    }
}

/// Doubling from 200 ms to 10 s, half of it left to chance. `chance` is in `[0, 1)`.
fn backoff(repeat: u32, chance: f64) -> Duration {
    const FIRST_MS: u64 = 200;
    const LAST_MS: u64 = 10_000;
    let full = FIRST_MS.saturating_mul(1 << repeat.min(20)).min(LAST_MS);
    Duration::from_millis(full).mul_f64(0.5 + chance / 2.0)
}

/// Pooled connections live in the runtime that made them, so that runtimes do not share clients.
static CLIENTS: LazyLock<Mutex<HashMap<tokio::runtime::Id, Client>>> = LazyLock::new(Mutex::default);

fn client() -> Result<Client> {
    tls::install_provider();
    let mut clients = CLIENTS.lock().unwrap_or_else(PoisonError::into_inner);
    let id = tokio::runtime::Handle::current().id();
    if let Some(client) = clients.get(&id) {
        return Ok(client.clone());
    }
    let client = Client::builder()
        .user_agent(concat!("headwater/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(CONNECT_TIMEOUT)
        .pool_idle_timeout(Duration::from_secs(30))
        .gzip(true)
        .build()
        .map_err(|error| Error::internal(format!("no HTTP client: {error}")))?;
    clients.insert(id, client.clone());
    Ok(client)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replies() {
        let page = Page { page: 3, results: 2 };
        let check = |body: &str, expect: Result<usize, Failure>| {
            assert_eq!(users(body.as_bytes(), page, "s").map(|users| users.len()), expect, "{body}");
        };
        let reply = |text: &str| Err(Failure::Reply(text.into()));
        let count = |text: &str| Err(Failure::Count(text.into()));
        check(r#"{"results":[1,2],"info":{"seed":"s","page":3}}"#, Ok(2));
        check(r#"{"results":[1,2]}"#, Ok(2));
        check(
            r#"{"error":"Uh oh, something has gone wrong."}"#,
            reply("it answers with an error: Uh oh, something has gone wrong."),
        );
        check(r#"{"results":[1]}"#, count("1 users in place of 2"));
        check(r#"{"results":[1,2],"info":{"page":1}}"#, count("page 1 in place of 3"));
        check(r#"{"results":[1,2],"info":{"seed":"t"}}"#, count("users of another seed"));
        check(r#"{"results":[{"password":"canary"#, reply("the answer is a JSON that ends early (line 1, column 31)"));
        check("<html>", reply("the answer is no JSON (line 1, column 1)"));
        check("{}", reply("the answer has no results"));
    }

    #[test]
    fn statuses() {
        let check = |status: u16, after: Option<&str>, expect: Result<(), Failure>| {
            let mut headers = header::HeaderMap::new();
            after.map(|after| headers.insert(header::RETRY_AFTER, after.parse().unwrap()));
            assert_eq!(judged(StatusCode::from_u16(status).unwrap(), &headers), expect);
        };
        check(200, None, Ok(()));
        check(429, Some("7"), Err(Failure::TooMany(Some(Duration::from_secs(7)))));
        check(429, None, Err(Failure::TooMany(None)));
        check(503, Some("7"), Err(Failure::TooMany(Some(Duration::from_secs(7)))));
        assert!(matches!(judged(StatusCode::NOT_FOUND, &header::HeaderMap::new()), Err(Failure::Refused(_))));
        assert!(matches!(judged(StatusCode::BAD_GATEWAY, &header::HeaderMap::new()), Err(Failure::Reply(_))));
    }

    #[test]
    fn when_to_come_back() {
        let now = chrono::DateTime::parse_from_rfc3339("2026-01-01T00:00:00Z").unwrap().to_utc();
        let check = |text: &str, expect: Option<u64>| {
            assert_eq!(retry_after(text, now), expect.map(Duration::from_secs), "{text}");
        };
        check("120", Some(120));
        check("Thu, 01 Jan 2026 00:00:30 GMT", Some(30));
        check("Thu, 01 Jan 2025 00:00:30 GMT", None);
        check("soon", None);
    }

    #[test]
    fn addresses_keep_what_they_have() {
        let service = Service {
            url: Url::parse("http://me:canary@h:1/api/?format=json").unwrap(),
            seed: "a b&c".into(),
            nat: Some("DE,FR".into()),
            timeout: Duration::from_secs(1),
            retry_after_max: Duration::from_secs(30),
            retries_max: 1,
        };
        let page = Page { page: 3, results: 2 };
        let url = service.request(page);
        assert_eq!(url.query(), Some("format=json&results=2&page=3&seed=a+b%26c&nat=DE%2CFR"));
        let error = service.error(&Failure::TooMany(Some(Duration::from_secs(42))), page, 0);
        assert!(error.message.contains("http://h:1/api/") && error.message.contains("retry after 42 s"), "{error}");
        assert!(!error.message.contains("canary"), "{error}");
        assert_eq!(pause_asked(&error), Some(Duration::from_secs(42)));
        assert_eq!(pause_asked(&Error { class: "X".into(), ..error }), None);
        let at_once = Service { retry_after_max: Duration::ZERO, ..service };
        let error = at_once.error(&Failure::TooMany(None), page, 0);
        assert!(error.message.contains("retry later"), "{error}");
        assert_eq!(pause_asked(&error), None);
        let error = at_once.error(&Failure::TooMany(Some(Duration::from_millis(1500))), page, 3);
        assert_eq!(pause_asked(&error), Some(Duration::from_secs(2)));
    }
}
