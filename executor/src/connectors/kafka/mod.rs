//! `kafka`

use super::Connector;

/// The `kafka` connector.
#[derive(Debug)]
pub struct Kafka;

impl Connector for Kafka {
    fn format(&self) -> &'static str {
        "kafka"
    }
}
