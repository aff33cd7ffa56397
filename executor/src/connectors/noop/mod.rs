//! `noop`

use super::Connector;

/// The `noop` connector.
#[derive(Debug)]
pub struct Noop;

impl Connector for Noop {
    fn format(&self) -> &'static str {
        "noop"
    }
}
