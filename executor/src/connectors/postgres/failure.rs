//! What the driver's errors mean: tried again, a row's fault, or for the user to mend. Decisions from SQLSTATEs alone.

use headwater_proto::error::{Error, ErrorKind};
use std::error::Error as _;
use std::time::Duration;

/// What to do about a failed statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Do it again after a pause: the connection was lost, the server restarts, transactions met.
    Retry,
    /// A value is wrong: other rows of the same statement may be right.
    Row,
    /// Give up.
    Fail,
}

/// A statement that failed.
#[derive(Debug, Clone)]
pub struct Failure {
    /// What to do about it.
    pub verdict: Verdict,
    /// `23505` and the like; empty when it did not come from the server.
    pub state: String,
    /// The server's words, without the row's values.
    pub reason: String,
}

/// Decides by the SQLSTATE.
pub fn verdict(state: &str) -> Verdict {
    match state {
        // Serialization, deadlock, too many connections, no lock in time; a standby that took over is not yet writable.
        "40001" | "40P01" | "53300" | "55P03" | "25006" | "57P01" | "57P02" | "57P03" => Verdict::Retry,
        _ if state.starts_with("08") => Verdict::Retry,
        _ if state.starts_with("22") || state.starts_with("23") => Verdict::Row,
        _ => Verdict::Fail,
    }
}

/// Kind and class of what the server refuses.
fn kind_of(state: &str) -> (ErrorKind, &'static str) {
    match state {
        "28P01" | "28000" => (ErrorKind::InvalidRequest, "POSTGRES_AUTHENTICATION_FAILED"),
        "3D000" => (ErrorKind::NotFound, "POSTGRES_DATABASE_NOT_FOUND"),
        "3F000" => (ErrorKind::NotFound, "SCHEMA_NOT_FOUND"),
        "42P01" => (ErrorKind::NotFound, "TABLE_OR_VIEW_NOT_FOUND"),
        "42703" => (ErrorKind::InvalidRequest, "UNRESOLVED_COLUMN.WITH_SUGGESTION"),
        "42501" => (ErrorKind::InvalidRequest, "POSTGRES_PERMISSION_DENIED"),
        "57014" => (ErrorKind::InvalidRequest, "POSTGRES_STATEMENT_CANCELLED"),
        // Out of disk or memory: somebody has to make room, and may.
        _ if state.starts_with("53") => (ErrorKind::Transient, "POSTGRES_OUT_OF_RESOURCES"),
        _ if verdict(state) == Verdict::Retry => (ErrorKind::Transient, "POSTGRES_REQUEST_FAILED"),
        _ => (ErrorKind::InvalidRequest, "POSTGRES_REQUEST_FAILED"),
    }
}

fn remedy(state: &str) -> &'static str {
    match state {
        "28P01" | "28000" => "; check options user and password",
        "3D000" => "; check the database in option url",
        "3F000" | "42P01" => "; check option dbtable",
        "42501" => "; grant it to the user of option user",
        "53300" => "; raise max_connections on the server, or run fewer tasks",
        "57014" => "; raise option queryTimeout if it was that",
        _ => "",
    }
}

/// Everything that an error says about its causes, on one line.
fn chain(error: &tokio_postgres::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text.push_str(": ");
        text.push_str(&inner.to_string());
        cause = inner.source();
    }
    text
}

impl Failure {
    /// What the driver's error means.
    pub fn new(error: &tokio_postgres::Error) -> Self {
        if let Some(db) = error.as_db_error() {
            let state = db.code().code().to_string();
            // Not the detail: it quotes the row.
            let hint = db.hint().map(|hint| format!(" ({hint})")).unwrap_or_default();
            let column = db.column().filter(|name| !db.message().contains(*name));
            let column = column.map(|name| format!(", column {name}")).unwrap_or_default();
            let reason = format!("{}{column}{hint}, SQLSTATE {state}", db.message());
            return Self { verdict: verdict(&state), state, reason };
        }
        let from_the_line = error.is_closed()
            || error.source().is_some_and(|cause| cause.is::<std::io::Error>())
            || error.to_string().starts_with("timeout");
        // A handshake that fails also wraps what the line says, and will fail again.
        let handshake = error.to_string().contains("TLS");
        let verdict = if from_the_line && !handshake { Verdict::Retry } else { Verdict::Fail };
        Self { verdict, state: String::new(), reason: chain(error) }
    }

    /// A line that did not answer in time.
    pub fn timeout(limit: Duration) -> Self {
        Self { verdict: Verdict::Retry, state: String::new(), reason: format!("no answer within {limit:?}") }
    }

    /// As an error of ours: `failed to {what} on postgres {label}: …`.
    pub fn error(&self, what: &str, label: &str) -> Error {
        let (kind, class) = match (self.state.as_str(), self.verdict) {
            ("", Verdict::Retry) => (ErrorKind::Transient, "POSTGRES_UNREACHABLE"),
            ("", _) if self.reason.contains("TLS") => (ErrorKind::InvalidRequest, "POSTGRES_TLS_FAILED"),
            ("", _) if self.reason.contains("authentication") => {
                (ErrorKind::InvalidRequest, "POSTGRES_AUTHENTICATION_FAILED")
            }
            ("", _) => (ErrorKind::Fatal, "POSTGRES_REQUEST_FAILED"),
            (state, _) => kind_of(state),
        };
        let remedy = match class {
            "POSTGRES_UNREACHABLE" => "; check that it runs and option url",
            "POSTGRES_TLS_FAILED" => "; check options sslmode and sslrootcert",
            _ => remedy(&self.state),
        };
        let place = if label.is_empty() { "postgres".to_string() } else { format!("postgres {label}") };
        Error::new(kind, class, format!("failed to {what} on {place}: {}{remedy}", self.reason))
    }
}

impl From<tokio_postgres::Error> for Failure {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::new(&error)
    }
}

/// The pause before repeat number `repeat` (0-based): doubling from 100 ms to 5 s, of which half is left to chance so
/// that tasks do not come back all at once. `chance` is in `[0, 1)`.
pub fn pause(repeat: u32, chance: f64) -> Duration {
    const FIRST_MS: u64 = 100;
    const LAST_MS: u64 = 5_000;
    let full = FIRST_MS.saturating_mul(1 << repeat.min(20)).min(LAST_MS);
    Duration::from_millis(full).mul_f64(0.5 + chance / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_decide() {
        let check = |state: &str, expect: Verdict| assert_eq!(verdict(state), expect, "{state}");
        for state in ["40001", "40P01", "53300", "57P01", "08006", "08001"] {
            check(state, Verdict::Retry);
        }
        for state in ["22P02", "22001", "23505", "23502", "23514"] {
            check(state, Verdict::Row);
        }
        for state in ["42P01", "42601", "P0001", "53100", "28P01", "57014"] {
            check(state, Verdict::Fail);
        }
    }

    #[test]
    fn errors_say_what_to_do() {
        let check = |state: &str, verdict: Verdict, kind: ErrorKind, class: &str, expect: &str| {
            let failure = Failure { verdict, state: state.into(), reason: "why".into() };
            let error = failure.error("read table t", "h:1/db");
            assert_eq!((error.kind, error.class.as_str()), (kind, class), "{state}");
            assert!(error.message.starts_with("failed to read table t on postgres h:1/db: why"), "{error}");
            assert!(error.message.contains(expect), "{error}");
        };
        check("", Verdict::Retry, ErrorKind::Transient, "POSTGRES_UNREACHABLE", "option url");
        check("28P01", Verdict::Fail, ErrorKind::InvalidRequest, "POSTGRES_AUTHENTICATION_FAILED", "password");
        check("42P01", Verdict::Fail, ErrorKind::NotFound, "TABLE_OR_VIEW_NOT_FOUND", "dbtable");
        check("53100", Verdict::Fail, ErrorKind::Transient, "POSTGRES_OUT_OF_RESOURCES", "");
        check("P0001", Verdict::Fail, ErrorKind::InvalidRequest, "POSTGRES_REQUEST_FAILED", "");
    }

    #[test]
    fn pauses_grow_to_a_bound() {
        assert_eq!(pause(0, 0.0), Duration::from_millis(50));
        assert!(pause(40, 0.999) <= Duration::from_secs(5));
    }
}
