//! Text that must not be seen.

use serde::{Deserialize, Serialize};
use std::convert::Infallible;
use std::fmt;
use std::str::FromStr;

/// Text that holds a secret, such as a database's address with its password. It prints as a placeholder; only
/// [`Secret::expose`] gives it away.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// Wraps it.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }
    /// The text, for whoever it is meant for.
    pub fn expose(&self) -> &str {
        &self.0
    }
    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl FromStr for Secret {
    type Err = Infallible;
    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(Self::new(text))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_empty() { "Secret()" } else { "Secret(redacted)" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_does_not_print() {
        let secret: Secret = "postgresql://u:hunter2@h/d".parse().expect("any text");
        assert_eq!((format!("{secret:?}").as_str(), secret.expose().len()), ("Secret(redacted)", 26));
        assert_eq!(serde_json::to_string(&secret).expect("text"), "\"postgresql://u:hunter2@h/d\"");
    }
}
