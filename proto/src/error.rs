//! What every error of Headwater says about itself: what the caller should do, and Spark's error class.
//!
//! Errors cross process borders as text. People read the class in front of the message, in brackets, as Spark prints it:
//! `[KAFKA_DATA_LOSS] offsets 5..9 of topic …`. Ballista reports a failed task by the `Debug` form of whatever wraps the
//! error, so `Debug` has a form of its own, which [`Error::in_text`] finds again, kind included.

use std::collections::BTreeMap;
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
#[derive(Clone, thiserror::Error)]
#[error("[{class}] {message}")]
pub struct Error {
    /// What the caller should do.
    pub kind: ErrorKind,
    /// Spark's error class, or one of ours in Spark's form: upper case, words by underscore, sub-class by dot.
    pub class: String,
    /// Lower case, no full stop; says what to do about it where that is known.
    pub message: String,
    /// What programs can read beside the message. Lost when an error crosses a process border.
    pub details: Option<Box<Details>>,
}

/// What Spark tells programs about an error beside its message.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Details {
    /// By the names that Spark's message of this class has for them, such as `objectName`.
    pub parameters: BTreeMap<String, String>,
    /// Where in the user's text or program it is.
    pub contexts: Vec<QueryContext>,
}

/// A place in SQL text or in a program that uses DataFrames.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct QueryContext {
    /// A place in a program, not in SQL text.
    pub dataframe: bool,
    /// What the text defines, such as `VIEW`; empty for a query.
    pub object_type: String,
    /// Its name; empty for a query.
    pub object_name: String,
    /// First character, from 0; -1 when unknown.
    pub start_index: i32,
    /// Last character, from 0; -1 when unknown.
    pub stop_index: i32,
    /// The text between them; for a program the name of the method.
    pub fragment: String,
    /// Where the program called, for a program.
    pub call_site: String,
}

/// What stands around an error in `Debug` form. Plain characters, which survive another `{:?}` of the text.
const BEGIN: &str = "Error<";
const END: &str = "</Error>";

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{BEGIN}{:?}>{self}{END}", self.kind)
    }
}

impl ErrorKind {
    const ALL: [ErrorKind; 6] = [
        ErrorKind::Transient,
        ErrorKind::InvalidRequest,
        ErrorKind::NotFound,
        ErrorKind::AlreadyExists,
        ErrorKind::Fatal,
        ErrorKind::Internal,
    ];
}

impl Error {
    /// An error of this kind and class.
    pub fn new(kind: ErrorKind, class: impl Into<String>, message: impl fmt::Display) -> Self {
        Self { kind, class: class.into(), message: message.to_string(), details: None }
    }
    /// With a parameter of the message, by Spark's name for it.
    #[must_use]
    pub fn with(mut self, key: impl Into<String>, value: impl fmt::Display) -> Self {
        self.details.get_or_insert_default().parameters.insert(key.into(), value.to_string());
        self
    }
    /// With the place that it is about.
    #[must_use]
    pub fn at(mut self, context: QueryContext) -> Self {
        self.details.get_or_insert_default().contexts.push(context);
        self
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
    /// The first error of ours that stands in a text in its `Debug` form, as it was.
    pub fn in_text(text: &str) -> Option<Self> {
        text.match_indices(BEGIN).find_map(|(at, _)| {
            let (kind, rest) = text[at + BEGIN.len()..].split_once('>')?;
            let kind = ErrorKind::ALL.into_iter().find(|known| format!("{known:?}") == kind)?;
            let shown = rest.split_once(END).map_or(rest, |(shown, _)| shown);
            let (class, message) = Self::class_in(shown).filter(|_| shown.starts_with('['))?;
            Some(Self::new(kind, class, message))
        })
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
    fn errors_are_found_in_what_wraps_them() {
        #[derive(Debug)]
        #[allow(dead_code)]
        struct Wrapper<T>(T);
        let error = Error::fatal("KAFKA_DATA_LOSS", "offsets 5..9 of [users] are gone");
        let check = |text: &str| {
            let found = Error::in_text(text).expect("an error");
            assert_eq!((found.kind, found.to_string()), (error.kind, error.to_string()), "{text}");
        };
        check(&format!("task failed: {:?}", Wrapper(&error)));
        check(&format!("{:?}", Wrapper(std::io::Error::other(error.clone()))));
        check(&format!("most recent: {:?}", format!("{:?}", Wrapper(&error))));
        for none in ["Error<Transient>", "Error<Odd>[CLASS] text</Error>", "Error<Fatal>text [CLASS]", "", "Error<"] {
            assert!(Error::in_text(none).is_none(), "{none}");
        }
    }

    #[test]
    fn class_survives_wrapping() {
        let text =
            format!("Execution error: task failed: {}", Error::fatal("KAFKA_DATA_LOSS", "offsets 5..9 are gone"));
        assert_eq!(Error::class_in(&text), Some(("KAFKA_DATA_LOSS", "offsets 5..9 are gone")));
        assert_eq!(Error::class_in("list [1, 2] is no class"), None);
    }
}
