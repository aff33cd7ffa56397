//! What every error of Headwater says about itself: what the caller should do, and Spark's error class.
//!
//! Errors cross process borders as text (Ballista reports a failed task as a string), so the class travels in front
//! of the message, in brackets, as Spark prints it: `[KAFKA_DATA_LOSS] offsets 5..9 of topic …`.

use std::fmt;

/// What the caller should do about an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// Try again: a broker away, an overloaded database. The same request may succeed later.
    Transient,
    /// Fix the request: a wrong option, a missing column, bad SQL.
    InvalidRequest,
    /// The named thing does not exist.
    NotFound,
    /// The named thing exists or is running already.
    AlreadyExists,
    /// Give up this run: data is lost, another coordinator owns the checkpoint, the checkpoint is unreadable.
    Fatal,
    /// A bug of Headwater: report it.
    Internal,
}

/// An error with its kind, its Spark error class and a message that names the thing, the place and the remedy.
#[derive(Debug, Clone, thiserror::Error)]
#[error("[{class}] {message}")]
pub struct Error {
    /// What the caller should do.
    pub kind: ErrorKind,
    /// Spark's error class, or one of ours in Spark's form: upper case, words by underscore, sub-class by dot.
    pub class: String,
    /// Lower case, no full stop; says what to do about it where that is known.
    pub message: String,
}

impl Error {
    /// An error of this kind and class.
    pub fn new(kind: ErrorKind, class: impl Into<String>, message: impl fmt::Display) -> Self {
        Self { kind, class: class.into(), message: message.to_string() }
    }
    /// Something outside that may come back: broker, database, object store.
    pub fn transient(class: &str, message: impl fmt::Display) -> Self {
        Self::new(ErrorKind::Transient, class, message)
    }
    /// The request cannot be served as it stands.
    pub fn invalid(class: &str, message: impl fmt::Display) -> Self {
        Self::new(ErrorKind::InvalidRequest, class, message)
    }
    /// The run cannot go on.
    pub fn fatal(class: &str, message: impl fmt::Display) -> Self {
        Self::new(ErrorKind::Fatal, class, message)
    }
    /// A broken invariant.
    pub fn internal(message: impl fmt::Display) -> Self {
        Self::new(ErrorKind::Internal, "INTERNAL_ERROR", message)
    }
    /// Finds the class that leads a message which has crossed a process border, and where the message begins:
    /// the first `[CLASS]` in the text.
    pub fn class_in(text: &str) -> Option<(&str, &str)> {
        let mut rest = text;
        while let Some(open) = rest.find('[') {
            rest = &rest[open + 1..];
            if let Some(close) = rest.find(']') {
                let class = &rest[..close];
                let plausible = class.len() > 2
                    && class.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b"_.".contains(&b));
                if plausible {
                    return Some((class, rest[close + 1..].trim_start()));
                }
            }
        }
        None
    }
}

/// Result with [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn class_survives_wrapping() {
        let text =
            format!("Execution error: task failed: {}", Error::fatal("KAFKA_DATA_LOSS", "offsets 5..9 are gone"));
        assert_eq!(Error::class_in(&text), Some(("KAFKA_DATA_LOSS", "offsets 5..9 are gone")));
        assert_eq!(Error::class_in("list [1, 2] is no class"), None);
    }
}
