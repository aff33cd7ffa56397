//! `org.apache.spark.sql.cassandra`

use super::Connector;

/// The `org.apache.spark.sql.cassandra` connector.
#[derive(Debug)]
pub struct Cassandra;

impl Connector for Cassandra {
    fn format(&self) -> &'static str {
        "org.apache.spark.sql.cassandra"
    }
}
