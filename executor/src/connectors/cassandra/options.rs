//! Options of the Cassandra source and sink: spark-cassandra-connector's names, ours beside them.
//!
//! A setting `spark.cassandra.x` is looked up as the option itself, then as `cluster:keyspace/spark.cassandra.x`,
//! `cluster/spark.cassandra.x` and `default/spark.cassandra.x`; session settings are merged below the options by the
//! caller. Every name is honoured, accepted because it cannot change a result, or refused; an unknown one is refused.
//!
//! Differences from the connector's defaults, each for a measured or stated reason:
//!
//! | setting | connector | here |
//! |---|---|---|
//! | `output.ignoreNulls` | false: nulls become tombstones | true: nulls are left unset |
//! | `output.batch.grouping.key` | partition | replica_set: rows of one replica set share a batch |
//! | `output.batch.size.rows`, `.bytes` | auto, 1024 | 32 rows, at most 32 KiB, unless either is given |
//! | `query.retry.count` | 60, at once | 10, with exponential backoff |

use super::tls::Tls;
use crate::connectors::{Options, dead_letters, warn_without_effect};
use headwater_proto::error::{Error, Result};
use scylla::statement::Consistency;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

/// What is done about an option name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Support {
    /// It means what the connector's documentation says.
    Honoured,
    /// Accepted with a warning; here it has nothing to act on, and no result depends on it.
    NoEffect,
    /// Refused unless it has one of these values, with the reason.
    Only(&'static [&'static str], &'static str),
    /// Refused, with the reason.
    Refused(&'static str),
}
use Support::{Honoured, NoEffect, Only, Refused};

const CIPHERS: &str = "the ciphers are those that OpenSSL holds to be safe; restrict them on the servers";
const JVM: &str = "it names code or files of the JVM driver, which is not used here";

/// Every name there is, as documents spell it; case does not matter. `*` stands for a column name.
const NAMES: &[(&str, Support)] = &[
    ("keyspace", Honoured),
    ("table", Honoured),
    ("cluster", Honoured),
    ("pushdown", Honoured),
    ("confirm.truncate", Honoured),
    ("ttl", Honoured),
    ("writetime", Honoured),
    ("ttl.*", Honoured),
    ("writetime.*", Honoured),
    ("directJoinSetting", Only(&["auto", "off"], "no join asks Cassandra for the keys of its other side")),
    ("directJoinSizeRatio", NoEffect),
    ("ignoreMissingMetaColumns", Only(&["false"], "a missing column is always an error")),
    // What Spark's readers and writers hand to every source: whoever starts the query has honoured them.
    ("checkpointLocation", Honoured),
    ("queryName", Honoured),
    ("spark.cassandra.output.consistency.level", Honoured),
    ("spark.cassandra.output.batch.size.rows", Honoured),
    ("spark.cassandra.output.batch.size.bytes", Honoured),
    ("spark.cassandra.output.batch.grouping.key", Honoured),
    // Rows are sorted in windows of fixed size; there are no half-filled batches to hold back.
    ("spark.cassandra.output.batch.grouping.buffer.size", NoEffect),
    ("spark.cassandra.output.concurrent.writes", Honoured),
    ("spark.cassandra.output.throughputMBPerSec", Honoured),
    ("spark.cassandra.output.ignoreNulls", Honoured),
    ("spark.cassandra.output.ifNotExists", Honoured),
    ("spark.cassandra.output.ttl", Honoured),
    ("spark.cassandra.output.timestamp", Honoured),
    ("spark.cassandra.output.metrics", NoEffect),
    ("spark.cassandra.connection.host", Honoured),
    ("spark.cassandra.connection.port", Honoured),
    ("spark.cassandra.connection.localDC", Honoured),
    ("spark.cassandra.connection.compression", Honoured),
    ("spark.cassandra.connection.timeoutMS", Honoured),
    ("spark.cassandra.connection.localConnectionsPerExecutor", Honoured),
    ("spark.cassandra.connection.remoteConnectionsPerExecutor", NoEffect),
    // One session lives as long as the process; the driver reconnects by its own schedule.
    ("spark.cassandra.connection.keepAliveMS", NoEffect),
    ("spark.cassandra.connection.reconnectionDelayMS.min", NoEffect),
    ("spark.cassandra.connection.reconnectionDelayMS.max", NoEffect),
    ("spark.cassandra.connection.resolveContactPoints", NoEffect),
    ("spark.cassandra.connection.quietPeriodBeforeCloseMS", NoEffect),
    ("spark.cassandra.connection.timeoutBeforeCloseMS", NoEffect),
    ("spark.cassandra.connection.factory", Refused(JVM)),
    ("spark.cassandra.connection.config.cloud.path", Refused(JVM)),
    ("spark.cassandra.connection.config.profile.path", Refused(JVM)),
    ("spark.cassandra.connection.ssl.enabled", Honoured),
    ("spark.cassandra.connection.ssl.clientAuth.enabled", Honoured),
    ("spark.cassandra.connection.ssl.trustStore.path", Honoured),
    ("spark.cassandra.connection.ssl.trustStore.password", Honoured),
    ("spark.cassandra.connection.ssl.trustStore.type", Honoured),
    ("spark.cassandra.connection.ssl.keyStore.path", Honoured),
    ("spark.cassandra.connection.ssl.keyStore.password", Honoured),
    ("spark.cassandra.connection.ssl.keyStore.type", Honoured),
    ("spark.cassandra.connection.ssl.protocol", Honoured),
    ("spark.cassandra.connection.ssl.enabledAlgorithms", Refused(CIPHERS)),
    ("headwater.ssl.verifyHost", Honoured),
    ("spark.cassandra.auth.username", Honoured),
    ("spark.cassandra.auth.password", Honoured),
    ("spark.cassandra.auth.conf.factory", Refused(JVM)),
    ("spark.cassandra.query.retry.count", Honoured),
    ("spark.cassandra.read.timeoutMS", Honoured),
    ("spark.cassandra.input.consistency.level", Honoured),
    ("spark.cassandra.input.fetch.sizeInRows", Honoured),
    ("spark.cassandra.input.split.sizeInMB", Honoured),
    ("spark.cassandra.input.readsPerSec", Honoured),
    ("spark.cassandra.input.throughputMBPerSec", Honoured),
    ("spark.cassandra.input.metrics", NoEffect),
    ("spark.cassandra.concurrent.reads", Honoured),
    ("spark.cassandra.table.size.in.bytes", NoEffect),
    // Lookups of many keys are spread over tasks in any case.
    ("spark.cassandra.sql.inClauseToJoinConversionThreshold", NoEffect),
    ("spark.cassandra.sql.inClauseToFullScanConversionThreshold", Honoured),
    ("spark.cassandra.sql.pushdown.additionalClasses", Refused(JVM)),
    ("headwater.badRecords", Honoured),
    ("headwater.deadLetter.table", Honoured),
    ("headwater.deadLetter.topic", Honoured),
    ("headwater.deadLetter.columns", Honoured),
    ("headwater.deadLetter.kafka.*", Honoured),
    ("headwater.createTable", Honoured),
    ("headwater.primaryKey", Honoured),
    ("createTableColumnTypes", Honoured),
];

/// How to reach one cluster: what a session is shared by.
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Connection {
    /// Contact points, each `host:port`.
    pub hosts: Vec<String>,
    /// Data centre to which requests go; any when unset.
    pub local_dc: Option<String>,
    /// `LZ4`, `SNAPPY` or none.
    pub compression: Option<Compression>,
    /// Time for one connection to be made.
    pub connect_timeout_ms: u64,
    /// Time for one request to be answered.
    pub request_timeout_ms: u64,
    /// Connections to each node.
    pub connections_per_host: usize,
    /// User of `PasswordAuthenticator`.
    pub username: Option<String>,
    /// Its password.
    pub password: Option<String>,
    /// How the line is encrypted; plain text when unset.
    #[serde(default)]
    pub tls: Option<Tls>,
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection")
            .field("hosts", &self.hosts)
            .field("local_dc", &self.local_dc)
            .field("username", &self.username)
            .field("password", &self.password.as_ref().map(|_| "*********(redacted)"))
            .finish_non_exhaustive()
    }
}

impl Connection {
    /// The contact points, for messages.
    pub fn label(&self) -> String {
        self.hosts.join(",")
    }
}

/// Compression of the native protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Compression {
    /// LZ4.
    Lz4,
    /// Snappy.
    Snappy,
}

/// A table's two names, as they stand in the schema tables.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct TableName {
    /// Keyspace.
    pub keyspace: String,
    /// Table.
    pub table: String,
}

impl fmt::Display for TableName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.keyspace, self.table)
    }
}

/// A value for all rows, or the column that holds each row's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum PerRow {
    /// The same for every row.
    Constant(i64),
    /// This column of the rows, which is then not a column of the table.
    Column(String),
}

/// Which rows may share a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Grouping {
    /// Any rows.
    None,
    /// Rows whose replicas are the same nodes.
    ReplicaSet,
    /// Rows of one partition.
    Partition,
}

/// How large a batch gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct BatchSize {
    /// Rows at most.
    pub rows: usize,
    /// Bytes of values at most; a larger row goes alone.
    pub bytes: usize,
}

/// Where rows go that cannot be written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum BadRecords {
    /// The task fails, as Spark's would.
    Fail,
    /// Counted and logged.
    Skip,
    /// Counted and kept in this table.
    Table(TableName),
    /// Counted and sent to a Kafka topic.
    Topic {
        /// The topic.
        topic: String,
        /// Options of the Kafka sink.
        options: Options,
    },
}

impl BadRecords {
    /// The option's value.
    pub fn name(&self) -> &'static str {
        match self {
            BadRecords::Fail => "fail",
            BadRecords::Skip => "skip",
            BadRecords::Table(_) | BadRecords::Topic { .. } => "dead-letter",
        }
    }
}

/// The write half of the options.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WriteOptions {
    /// Consistency level's name, as Cassandra spells it.
    pub consistency: ConsistencyLevel,
    /// How large a batch gets.
    pub batch_size: BatchSize,
    /// Which rows may share a batch.
    pub grouping: Grouping,
    /// Requests of one task in flight.
    pub concurrent_writes: usize,
    /// Bytes of values a task writes in a second.
    pub bytes_per_second: Option<u64>,
    /// Nulls are left unset, so that they make no tombstones and replace nothing.
    pub ignore_nulls: bool,
    /// Lightweight transactions: rows that exist are left alone.
    pub if_not_exists: bool,
    /// Time to live in seconds.
    pub ttl: Option<PerRow>,
    /// Write time in microseconds since 1970.
    pub writetime: Option<PerRow>,
    /// Times a request is repeated before the batch fails.
    pub retries_max: u32,
    /// Where rows go that cannot be written.
    pub bad_records: BadRecords,
    /// Columns of the rows that dead letters alone hold.
    pub letter_columns: Vec<String>,
}

impl WriteOptions {
    /// Columns of the rows that are no columns of the table.
    pub fn columns_beside(&self) -> Vec<&str> {
        let settings = [&self.ttl, &self.writetime].into_iter().filter_map(|value| match value {
            Some(PerRow::Column(column)) => Some(column.as_str()),
            _ => None,
        });
        settings.chain(self.letter_columns.iter().map(String::as_str)).collect()
    }
}

/// All that a write is told.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SinkOptions {
    /// The cluster.
    pub connection: Connection,
    /// The table.
    pub name: TableName,
    /// How rows are written.
    pub write: WriteOptions,
    /// Whether a missing table is created.
    pub create_table: bool,
    /// Primary key of a created table.
    pub primary_key: Option<PrimaryKey>,
    /// Types of a created table's columns where they differ from the rows'; by column, as CQL writes them.
    #[serde(default)]
    pub column_types: BTreeMap<String, String>,
    /// Whether an overwrite may truncate.
    pub confirm_truncate: bool,
}

/// A column's time to live or write time as a column of its own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MetadataColumn {
    /// `ttl` or `writetime`.
    pub function: MetadataFunction,
    /// The column it is about; lower case unless the table has it otherwise.
    pub column: String,
    /// The name it gets.
    pub alias: String,
}

/// CQL's functions of a cell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum MetadataFunction {
    /// Seconds left.
    Ttl,
    /// Microseconds since 1970.
    Writetime,
}

/// The read half of the options.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ReadOptions {
    /// Consistency level's name.
    pub consistency: ConsistencyLevel,
    /// Rows of one page.
    pub fetch_rows: i32,
    /// Bytes that one plan partition reads, about.
    pub split_bytes: u64,
    /// Lookups of one task in flight.
    pub concurrent_reads: usize,
    /// Requests of one task in a second.
    pub requests_per_second: Option<u64>,
    /// Bytes that one task reads in a second.
    pub bytes_per_second: Option<u64>,
    /// Times a request is repeated before the read fails.
    pub retries_max: u32,
}

/// All that a read is told.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TableOptions {
    /// The cluster.
    pub connection: Connection,
    /// The table.
    pub name: TableName,
    /// How rows are read.
    pub read: ReadOptions,
    /// Whether filters go to Cassandra.
    pub pushdown: bool,
    /// Key combinations of `IN` lists beyond which the whole table is read instead.
    pub lookup_keys_max: usize,
    /// Times to live and write times to show.
    pub metadata: Vec<MetadataColumn>,
}

/// A consistency level that travels as its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConsistencyLevel(pub Consistency);

impl FromStr for ConsistencyLevel {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        Ok(Self(match text.to_ascii_uppercase().as_str() {
            "ANY" => Consistency::Any,
            "ONE" => Consistency::One,
            "TWO" => Consistency::Two,
            "THREE" => Consistency::Three,
            "QUORUM" => Consistency::Quorum,
            "ALL" => Consistency::All,
            "LOCAL_QUORUM" => Consistency::LocalQuorum,
            "EACH_QUORUM" => Consistency::EachQuorum,
            "LOCAL_ONE" => Consistency::LocalOne,
            "SERIAL" => Consistency::Serial,
            "LOCAL_SERIAL" => Consistency::LocalSerial,
            _ => {
                return Err("ANY, ONE, TWO, THREE, QUORUM, ALL, LOCAL_QUORUM, EACH_QUORUM, LOCAL_ONE, SERIAL or \
                            LOCAL_SERIAL"
                    .into());
            }
        }))
    }
}

impl ConsistencyLevel {
    /// As Cassandra spells it.
    pub fn name(self) -> &'static str {
        match self.0 {
            Consistency::Any => "ANY",
            Consistency::One => "ONE",
            Consistency::Two => "TWO",
            Consistency::Three => "THREE",
            Consistency::Quorum => "QUORUM",
            Consistency::All => "ALL",
            Consistency::LocalQuorum => "LOCAL_QUORUM",
            Consistency::EachQuorum => "EACH_QUORUM",
            Consistency::LocalOne => "LOCAL_ONE",
            Consistency::Serial => "SERIAL",
            Consistency::LocalSerial => "LOCAL_SERIAL",
        }
    }
}

impl Serialize for ConsistencyLevel {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

impl<'de> Deserialize<'de> for ConsistencyLevel {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        name.parse().map_err(|expected| serde::de::Error::custom(format!("consistency level {name} is not {expected}")))
    }
}

/// `id`, `a,b` (partition key `a`, clustering `b`) or `(a,b),c` (partition key `a, b`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PrimaryKey {
    /// Columns that place a row.
    pub partition: Vec<String>,
    /// Columns that order the rows of a partition.
    pub clustering: Vec<String>,
}

/// `id uuid, born timestamp`: names and native types. Named as the option of Spark's JDBC writer.
fn column_types(text: &str) -> Result<BTreeMap<String, String>, ()> {
    const NATIVE: &[&str] = &[
        "ascii",
        "bigint",
        "blob",
        "boolean",
        "date",
        "decimal",
        "double",
        "duration",
        "float",
        "inet",
        "int",
        "smallint",
        "text",
        "time",
        "timestamp",
        "timeuuid",
        "tinyint",
        "uuid",
        "varchar",
        "varint",
    ];
    let mut types = BTreeMap::new();
    for column in text.split(',') {
        let [name, cql] = column.split_whitespace().collect::<Vec<_>>()[..] else { return Err(()) };
        let cql = cql.to_ascii_lowercase();
        if !NATIVE.contains(&cql.as_str()) || types.insert(name.trim_matches('`').to_string(), cql).is_some() {
            return Err(());
        }
    }
    Ok(types)
}

impl FromStr for PrimaryKey {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let expected = || "column names as in CQL: id, or (a,b),c".to_string();
        let columns = |text: &str| -> Result<Vec<String>, String> {
            text.split(',')
                .map(str::trim)
                .map(
                    |name| if name.is_empty() || name.contains(['(', ')']) { Err(expected()) } else { Ok(name.into()) },
                )
                .collect()
        };
        let text = text.trim();
        if let Some(rest) = text.strip_prefix('(') {
            let (partition, rest) = rest.split_once(')').ok_or_else(expected)?;
            let rest = rest.trim();
            let clustering = match rest.strip_prefix(',') {
                Some(rest) => columns(rest)?,
                None if rest.is_empty() => vec![],
                None => return Err(expected()),
            };
            Ok(Self { partition: columns(partition)?, clustering })
        } else {
            let mut all = columns(text)?;
            let clustering = all.split_off(1);
            Ok(Self { partition: all, clustering })
        }
    }
}

/// Reads options by name, with the connector's precedence.
struct Lookup<'a> {
    options: &'a Options,
    cluster: &'a str,
    keyspace: &'a str,
}

impl<'a> Lookup<'a> {
    fn text(&self, name: &str) -> Option<&'a str> {
        self.options
            .get(name)
            .or_else(|| self.options.get(&format!("{}:{}/{name}", self.cluster, self.keyspace)))
            .or_else(|| self.options.get(&format!("{}/{name}", self.cluster)))
            .or_else(|| self.options.get(&format!("default/{name}")))
            .map(str::trim)
    }
    /// `name`, parsed, or none when it is not there. `expected` ends the message.
    fn parsed<T: FromStr>(&self, name: &str, expected: &str) -> Result<Option<T>> {
        self.text(name).map(|text| text.parse().map_err(|_| wrong_value(name, text, expected))).transpose()
    }
    fn boolean(&self, name: &str, default: bool) -> Result<bool> {
        match self.text(name) {
            None => Ok(default),
            Some(text) if text.eq_ignore_ascii_case("true") => Ok(true),
            Some(text) if text.eq_ignore_ascii_case("false") => Ok(false),
            Some(text) => Err(wrong_value(name, text, "true or false")),
        }
    }
    fn positive(&self, name: &str, default: u64) -> Result<u64> {
        match self.parsed::<u64>(name, "a whole number above 0")? {
            None => Ok(default),
            Some(0) => Err(wrong_value(name, "0", "a whole number above 0")),
            Some(number) => Ok(number),
        }
    }
    fn consistency(&self, name: &str, default: Consistency) -> Result<ConsistencyLevel> {
        self.text(name).map_or(Ok(ConsistencyLevel(default)), |text| {
            text.parse().map_err(|expected: String| wrong_value(name, text, &expected))
        })
    }
    /// Mebibytes a second, as bytes.
    fn mebibytes(&self, name: &str) -> Result<Option<u64>> {
        let expected = "a number above 0 (MiB a second)";
        match self.parsed::<f64>(name, expected)? {
            None => Ok(None),
            Some(rate) if rate > 0.0 && rate.is_finite() => Ok(Some(((rate * 1024.0 * 1024.0) as u64).max(1))),
            Some(rate) => Err(wrong_value(name, &rate.to_string(), expected)),
        }
    }
    /// A constant or a column: `option` first, then `setting`, whose 0 means none.
    fn per_row(&self, option: &str, setting: &str) -> Result<Option<PerRow>> {
        Ok(match self.text(option).or_else(|| self.text(setting)) {
            None | Some("" | "0") => None,
            Some(text) => match text.parse::<i64>() {
                Ok(number) if number > 0 => Some(PerRow::Constant(number)),
                Ok(_) => return Err(wrong_value(option, text, "a number above 0, or the name of a column")),
                Err(_) => Some(PerRow::Column(text.into())),
            },
        })
    }
}

fn wrong_value(name: &str, value: &str, expected: &str) -> Error {
    Error::invalid("CASSANDRA_INVALID_OPTION", format!("option {name} is '{value}': expected {expected}"))
}

/// Refuses what is unknown and what cannot be honoured; those that have no effect.
fn check_names(options: &Options) -> Result<Vec<&str>> {
    let mut without_effect = vec![];
    for (given, value) in options.iter() {
        let lower = given.to_ascii_lowercase();
        // `cluster:keyspace/setting`
        let name = match lower.rsplit_once('/') {
            Some((_, setting)) if setting.starts_with("spark.cassandra.") => setting,
            _ => lower.as_str(),
        };
        let matches = |known: &str| {
            let known = known.to_ascii_lowercase();
            match known.strip_suffix('*') {
                Some(prefix) => name.len() > prefix.len() && name.starts_with(prefix),
                None => known == name,
            }
        };
        let support = NAMES.iter().find(|(known, _)| matches(known)).map(|(_, support)| *support);
        match support {
            Some(Honoured) => {}
            Some(NoEffect) => without_effect.push(given),
            Some(Only(allowed, _)) if allowed.iter().any(|allowed| value.trim().eq_ignore_ascii_case(allowed)) => {}
            Some(Only(allowed, why)) => {
                return Err(Error::invalid(
                    "CASSANDRA_UNSUPPORTED_OPTION",
                    format!("option {given} can only be {}: {why}", allowed.join(" or ")),
                ));
            }
            Some(Refused(why)) => {
                return Err(Error::invalid(
                    "CASSANDRA_UNSUPPORTED_OPTION",
                    format!("option {given} is not supported: {why}"),
                ));
            }
            None => {
                let last = name.rsplit('.').next().unwrap_or(name);
                let similar: Vec<&str> = NAMES
                    .iter()
                    .map(|(known, _)| *known)
                    .filter(|known| {
                        let known = known.to_ascii_lowercase();
                        known.rsplit('.').next().is_some_and(|end| end.contains(last) || last.contains(end))
                    })
                    .filter(|known| !known.ends_with('*'))
                    .collect();
                let hint = if similar.is_empty() {
                    "remove it or correct its spelling".to_string()
                } else {
                    format!("similar names are {}", similar.join(", "))
                };
                return Err(Error::invalid(
                    "CASSANDRA_UNKNOWN_OPTION",
                    format!("option {given} is not known to data source org.apache.spark.sql.cassandra: {hint}"),
                ));
            }
        }
    }
    Ok(without_effect)
}

fn table_name(options: &Options) -> Result<TableName> {
    let required = |name: &str| {
        options.get(name).map(str::trim).filter(|text| !text.is_empty()).map(String::from).ok_or_else(|| {
            Error::invalid(
                "CASSANDRA_MISSING_OPTION",
                format!("data source org.apache.spark.sql.cassandra needs option {name}"),
            )
        })
    };
    Ok(TableName { keyspace: required("keyspace")?, table: required("table")? })
}

/// `a,b:9043,[::1]` with the port that those without one get.
fn contact_points(hosts: &str, port: u16) -> Vec<String> {
    hosts
        .split(',')
        .map(str::trim)
        .filter(|host| !host.is_empty())
        .map(|host| match host.rsplit_once(':') {
            // An IPv6 address without brackets has several colons and no port.
            Some((before, _)) if before.contains(':') && !host.starts_with('[') => format!("[{host}]:{port}"),
            Some((_, after)) if !after.is_empty() && after.bytes().all(|b| b.is_ascii_digit()) => host.to_string(),
            _ => format!("{host}:{port}"),
        })
        .collect()
}

fn connection(lookup: &Lookup<'_>) -> Result<Connection> {
    let host_option = "spark.cassandra.connection.host";
    let port = lookup.parsed("spark.cassandra.connection.port", "a port number")?.unwrap_or(9042);
    let hosts = contact_points(lookup.text(host_option).unwrap_or("localhost"), port);
    if hosts.is_empty() {
        return Err(wrong_value(host_option, "", "a host, or several by comma"));
    }
    let compression_option = "spark.cassandra.connection.compression";
    let compression = match lookup.text(compression_option).map(str::to_ascii_uppercase).as_deref() {
        None | Some("" | "NONE") => None,
        Some("LZ4") => Some(Compression::Lz4),
        Some("SNAPPY") => Some(Compression::Snappy),
        Some(other) => return Err(wrong_value(compression_option, other, "NONE, LZ4 or SNAPPY")),
    };
    let username = lookup.text("spark.cassandra.auth.username").map(String::from);
    let password = lookup.text("spark.cassandra.auth.password").map(String::from);
    if username.is_some() != password.is_some() {
        return Err(Error::invalid(
            "CASSANDRA_MISSING_OPTION",
            "options spark.cassandra.auth.username and spark.cassandra.auth.password belong together: give both or none",
        ));
    }
    Ok(Connection {
        hosts,
        tls: Tls::parse(|name| lookup.text(name))?,
        local_dc: lookup.text("spark.cassandra.connection.localDC").filter(|dc| !dc.is_empty()).map(String::from),
        compression,
        connect_timeout_ms: lookup.positive("spark.cassandra.connection.timeoutMS", 5000)?,
        request_timeout_ms: lookup.positive("spark.cassandra.read.timeoutMS", 120_000)?,
        connections_per_host: lookup.positive("spark.cassandra.connection.localConnectionsPerExecutor", 1)? as usize,
        username,
        password,
    })
}

fn qualified(option: &str, text: &str) -> Result<TableName> {
    match text.split_once('.') {
        Some((keyspace, table)) if !keyspace.is_empty() && !table.is_empty() => {
            Ok(TableName { keyspace: keyspace.into(), table: table.into() })
        }
        _ => Err(wrong_value(option, text, "keyspace.table")),
    }
}

fn bad_records(lookup: &Lookup<'_>) -> Result<BadRecords> {
    const PREFIX: &str = "headwater.deadletter.kafka.";
    let table = lookup.text("headwater.deadLetter.table");
    let topic = lookup.text("headwater.deadLetter.topic");
    let policy = lookup.text("headwater.badRecords").map(str::to_ascii_lowercase);
    let target = match (table, topic) {
        (Some(_), Some(_)) => {
            return Err(Error::invalid(
                "CASSANDRA_INVALID_OPTION",
                "options headwater.deadLetter.table and headwater.deadLetter.topic exclude each other: keep one",
            ));
        }
        (Some(table), None) => Some(BadRecords::Table(qualified("headwater.deadLetter.table", table)?)),
        (None, Some(topic)) => {
            let mut kafka = Options::new([("topic", topic)]);
            for (key, value) in lookup.options.iter() {
                if let Some((prefix, property)) = key.split_at_checked(PREFIX.len())
                    && !property.is_empty()
                    && prefix.eq_ignore_ascii_case(PREFIX)
                {
                    kafka.set(format!("kafka.{property}"), value);
                }
            }
            if kafka.get("kafka.bootstrap.servers").is_none() {
                return Err(Error::invalid(
                    "CASSANDRA_MISSING_OPTION",
                    "option headwater.deadLetter.topic needs headwater.deadLetter.kafka.bootstrap.servers",
                ));
            }
            Some(BadRecords::Topic { topic: topic.into(), options: kafka })
        }
        (None, None) => None,
    };
    match (policy.as_deref(), target) {
        (None, None) | (Some("skip"), None) => Ok(BadRecords::Skip),
        (Some("fail"), None) => Ok(BadRecords::Fail),
        (None | Some("dead-letter" | "deadletter"), Some(target)) => Ok(target),
        (Some("dead-letter" | "deadletter"), None) => Err(Error::invalid(
            "CASSANDRA_MISSING_OPTION",
            "option headwater.badRecords is dead-letter: say where, by headwater.deadLetter.table or \
             headwater.deadLetter.topic",
        )),
        (Some(policy @ ("skip" | "fail")), Some(_)) => Err(Error::invalid(
            "CASSANDRA_INVALID_OPTION",
            format!(
                "option headwater.badRecords is {policy}, yet a dead letter target is given: remove one of the two"
            ),
        )),
        (Some(other), _) => Err(wrong_value("headwater.badRecords", other, "skip, fail or dead-letter")),
    }
}

fn batch_size(lookup: &Lookup<'_>) -> Result<BatchSize> {
    const ROWS: &str = "spark.cassandra.output.batch.size.rows";
    const BYTES: &str = "spark.cassandra.output.batch.size.bytes";
    // A request's count of statements is a u16; `usize::MAX` would overflow sums.
    const ROWS_MAX: usize = 65_535;
    const BYTES_MAX: usize = 256 << 20;
    let bytes = match lookup.text(BYTES) {
        None => None,
        Some(_) => Some((lookup.positive(BYTES, 1)? as usize).min(BYTES_MAX)),
    };
    Ok(match lookup.text(ROWS) {
        Some(text) if !text.eq_ignore_ascii_case("auto") => {
            BatchSize { rows: (lookup.positive(ROWS, 1)? as usize).min(ROWS_MAX), bytes: BYTES_MAX }
        }
        _ => match bytes {
            Some(bytes) => BatchSize { rows: ROWS_MAX, bytes },
            // 32 rows: measured as the least work for the cluster; 32 KiB stays under Cassandra's failing
            // threshold of 50 KiB.
            None => BatchSize { rows: 32, bytes: 32 << 10 },
        },
    })
}

fn lookup<'a>(options: &'a Options, keyspace: &'a str) -> Lookup<'a> {
    Lookup { options, cluster: options.get("cluster").unwrap_or("default"), keyspace }
}

impl SinkOptions {
    /// Reads and checks the options of a write.
    ///
    /// # Errors
    /// A name that is unknown or cannot be honoured, or a value that does not parse; the message names it.
    pub fn parse(options: &Options) -> Result<Self> {
        warn_without_effect(&check_names(options)?);
        let name = table_name(options)?;
        let lookup = lookup(options, &name.keyspace);
        let grouping_option = "spark.cassandra.output.batch.grouping.key";
        let grouping = match lookup.text(grouping_option).map(str::to_ascii_lowercase).as_deref() {
            None | Some("replica_set") => Grouping::ReplicaSet,
            Some("partition") => Grouping::Partition,
            Some("none") => Grouping::None,
            Some(other) => return Err(wrong_value(grouping_option, other, "none, replica_set or partition")),
        };
        let primary_key_option = "headwater.primaryKey";
        let primary_key = lookup
            .text(primary_key_option)
            .map(|text| text.parse().map_err(|expected: String| wrong_value(primary_key_option, text, &expected)))
            .transpose()?;
        let create_table = lookup.boolean("headwater.createTable", false)?;
        if create_table && primary_key.is_none() {
            return Err(Error::invalid(
                "CASSANDRA_MISSING_OPTION",
                "option headwater.createTable needs headwater.primaryKey, for example id or (a,b),c",
            ));
        }
        let column_types_option = "createTableColumnTypes";
        let column_types = match lookup.text(column_types_option) {
            Some(text) => column_types(text).map_err(|()| {
                wrong_value(
                    column_types_option,
                    text,
                    "columns with types of cassandra, such as id uuid, born timestamp",
                )
            })?,
            None => BTreeMap::new(),
        };
        for option in options.iter().map(|(key, _)| key.to_ascii_lowercase()) {
            if option.starts_with("ttl.") || option.starts_with("writetime.") {
                return Err(Error::invalid(
                    "CASSANDRA_UNSUPPORTED_OPTION",
                    format!("option {option} belongs to reads; a write takes ttl and writetime"),
                ));
            }
        }
        let write = WriteOptions {
            consistency: lookup.consistency("spark.cassandra.output.consistency.level", Consistency::LocalQuorum)?,
            batch_size: batch_size(&lookup)?,
            grouping,
            concurrent_writes: lookup.positive("spark.cassandra.output.concurrent.writes", 5)? as usize,
            bytes_per_second: lookup.mebibytes("spark.cassandra.output.throughputMBPerSec")?,
            ignore_nulls: lookup.boolean("spark.cassandra.output.ignoreNulls", true)?,
            if_not_exists: lookup.boolean("spark.cassandra.output.ifNotExists", false)?,
            ttl: lookup.per_row("ttl", "spark.cassandra.output.ttl")?,
            writetime: lookup.per_row("writetime", "spark.cassandra.output.timestamp")?,
            retries_max: lookup.parsed("spark.cassandra.query.retry.count", "a whole number")?.unwrap_or(10),
            bad_records: bad_records(&lookup)?,
            letter_columns: dead_letters::columns(options),
        };
        if !write.letter_columns.is_empty() && matches!(write.bad_records, BadRecords::Fail | BadRecords::Skip) {
            return Err(Error::invalid(
                "CASSANDRA_MISSING_OPTION",
                "option headwater.deadLetter.columns is for dead letters: say where they go, by \
                 headwater.deadLetter.table or headwater.deadLetter.topic",
            ));
        }
        if write.if_not_exists && write.writetime.is_some() {
            return Err(Error::invalid(
                "CASSANDRA_INVALID_OPTION",
                "options writetime and spark.cassandra.output.ifNotExists exclude each other: Cassandra takes no time \
                 for a conditional write",
            ));
        }
        Ok(Self {
            connection: connection(&lookup)?,
            write,
            create_table,
            primary_key,
            column_types,
            confirm_truncate: lookup.boolean("confirm.truncate", false)?,
            name,
        })
    }
}

impl TableOptions {
    /// Reads and checks the options of a read.
    ///
    /// # Errors
    /// As [`SinkOptions::parse`].
    pub fn parse(options: &Options) -> Result<Self> {
        warn_without_effect(&check_names(options)?);
        let name = table_name(options)?;
        let lookup = lookup(options, &name.keyspace);
        let metadata = options
            .iter()
            .filter_map(|(key, alias)| {
                let (function, column) = key.split_once('.')?;
                let function = match function.to_ascii_lowercase().as_str() {
                    "ttl" => MetadataFunction::Ttl,
                    "writetime" => MetadataFunction::Writetime,
                    _ => return None,
                };
                Some(MetadataColumn { function, column: column.into(), alias: alias.trim().into() })
            })
            .collect();
        Ok(Self {
            connection: connection(&lookup)?,
            read: ReadOptions {
                consistency: lookup.consistency("spark.cassandra.input.consistency.level", Consistency::LocalOne)?,
                fetch_rows: lookup.positive("spark.cassandra.input.fetch.sizeInRows", 1000)?.min(i32::MAX as u64)
                    as i32,
                split_bytes: lookup.positive("spark.cassandra.input.split.sizeInMB", 512)?.saturating_mul(1 << 20),
                // Each holds a page; the process's limit of requests in flight is lower still.
                concurrent_reads: lookup.positive("spark.cassandra.concurrent.reads", 512)?.min(128) as usize,
                requests_per_second: match lookup.text("spark.cassandra.input.readsPerSec") {
                    None => None,
                    Some(_) => Some(lookup.positive("spark.cassandra.input.readsPerSec", 1)?),
                },
                bytes_per_second: lookup.mebibytes("spark.cassandra.input.throughputMBPerSec")?,
                retries_max: lookup.parsed("spark.cassandra.query.retry.count", "a whole number")?.unwrap_or(10),
            },
            pushdown: lookup.boolean("pushdown", true)?,
            // The keys travel in the plan, so that far fewer than the connector's 20,000,000 make sense.
            lookup_keys_max: lookup
                .positive("spark.cassandra.sql.inClauseToFullScanConversionThreshold", 20_000_000)?
                .min(100_000) as usize,
            metadata,
            name,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sink(pairs: &[(&str, &str)]) -> Result<SinkOptions> {
        let mut options = Options::new([("keyspace", "k"), ("table", "t")]);
        pairs.iter().for_each(|(key, value)| options.set(*key, *value));
        SinkOptions::parse(&options)
    }

    fn refused(pairs: &[(&str, &str)], class: &str, part: &str) {
        let error = sink(pairs).expect_err(part);
        assert!(error.class == class && error.message.contains(part), "{error}");
    }

    #[test]
    fn defaults() {
        let options = sink(&[]).unwrap();
        assert_eq!(options.connection.hosts, ["localhost:9042"]);
        assert_eq!(options.write.consistency.name(), "LOCAL_QUORUM");
        assert_eq!(options.write.batch_size, BatchSize { rows: 32, bytes: 32 << 10 });
        assert_eq!(options.write.bad_records, BadRecords::Skip);
        assert!(options.write.ignore_nulls && !options.write.if_not_exists && !options.create_table);
        let table = TableOptions::parse(&Options::new([("keyspace", "k"), ("table", "t")])).unwrap();
        assert_eq!(table.read.consistency.name(), "LOCAL_ONE");
        assert!(table.pushdown);
    }

    #[test]
    fn names_ignore_case_and_precedence_is_the_connectors() {
        let setting = "spark.cassandra.output.concurrent.writes";
        let check = |pairs: &[(&str, &str)], expect: usize| {
            assert_eq!(sink(pairs).unwrap().write.concurrent_writes, expect, "{pairs:?}");
        };
        check(&[("SPARK.cassandra.Output.Concurrent.Writes", "7")], 7);
        let (default, cluster, both) = (format!("default/{setting}"), format!("c/{setting}"), format!("c:k/{setting}"));
        check(&[(&default, "1"), ("cluster", "c")], 1);
        check(&[(&default, "1"), (&cluster, "2"), ("cluster", "c")], 2);
        check(&[(&default, "1"), (&cluster, "2"), (&both, "3"), ("cluster", "c")], 3);
        check(&[(&default, "1"), (&cluster, "2"), (&both, "3"), (setting, "4"), ("cluster", "c")], 4);
    }

    #[test]
    fn unknown_and_impossible_names_are_refused() {
        refused(&[("keyspce", "k")], "CASSANDRA_UNKNOWN_OPTION", "keyspce");
        refused(&[("badRecords", "skip")], "CASSANDRA_UNKNOWN_OPTION", "similar names are headwater.badRecords");
        refused(&[("TimeoutMS", "1")], "CASSANDRA_UNKNOWN_OPTION", "spark.cassandra.read.timeoutMS");
        sink(&[("HEADWATER.BADRECORDS", "skip")]).unwrap();
        refused(&[("spark.cassandra.output.ttlx", "1")], "CASSANDRA_UNKNOWN_OPTION", "spark.cassandra.output.ttl");
        refused(
            &[("spark.cassandra.connection.ssl.enabledAlgorithms", "TLS_X")],
            "CASSANDRA_UNSUPPORTED_OPTION",
            "ciphers",
        );
        refused(&[("spark.cassandra.connection.factory", "x.Y")], "CASSANDRA_UNSUPPORTED_OPTION", "JVM");
        refused(&[("ttl.name", "a")], "CASSANDRA_UNSUPPORTED_OPTION", "reads");
        refused(&[("headwater.createTable", "true")], "CASSANDRA_MISSING_OPTION", "headwater.primaryKey");
        refused(&[("createTableColumnTypes", "id")], "CASSANDRA_INVALID_OPTION", "createTableColumnTypes");
        refused(&[("createTableColumnTypes", "id guid")], "CASSANDRA_INVALID_OPTION", "id uuid");
        refused(&[("spark.cassandra.auth.username", "u")], "CASSANDRA_MISSING_OPTION", "password");
        refused(&[("spark.cassandra.output.consistency.level", "SOME")], "CASSANDRA_INVALID_OPTION", "LOCAL_QUORUM");
        refused(
            &[("writetime", "5"), ("spark.cassandra.output.ifNotExists", "true")],
            "CASSANDRA_INVALID_OPTION",
            "writetime",
        );
        sink(&[("spark.cassandra.connection.ssl.enabled", "false")]).unwrap();
        let none = SinkOptions::parse(&Options::new([("table", "t")])).unwrap_err();
        assert!(none.message.contains("needs option keyspace"), "{none}");
    }

    #[test]
    fn what_has_no_effect_is_known_as_such() {
        let check = |given: &str, expect: &[&str]| {
            let options = Options::new([("keyspace", "k"), ("table", "t"), (given, "auto")]);
            assert_eq!(check_names(&options).unwrap(), expect);
        };
        check("directJoinSizeRatio", &["directJoinSizeRatio"]);
        check("c/spark.cassandra.connection.keepAliveMS", &["c/spark.cassandra.connection.keepAliveMS"]);
        check("directJoinSetting", &[]);
        check("queryName", &[]);
        refused(
            &[("directJoinSetting", "on")],
            "CASSANDRA_UNSUPPORTED_OPTION",
            "directJoinSetting can only be auto or off",
        );
        refused(&[("ignoreMissingMetaColumns", "true")], "CASSANDRA_UNSUPPORTED_OPTION", "can only be false");
    }

    #[test]
    fn secrets_stay_out_of_debug_and_errors() {
        let options =
            sink(&[("spark.cassandra.auth.username", "u"), ("spark.cassandra.auth.password", "hunter2")]).unwrap();
        assert!(!format!("{options:?}").contains("hunter2"));
        assert_eq!(options.connection.password.as_deref(), Some("hunter2"));
    }

    #[test]
    fn hosts_take_the_port_where_they_have_none() {
        let check = |hosts: &str, expect: &[&str]| assert_eq!(contact_points(hosts, 9042), expect, "{hosts}");
        check("a", &["a:9042"]);
        check(" a , b:9043 ,", &["a:9042", "b:9043"]);
        check("[::1]", &["[::1]:9042"]);
        check("[::1]:7", &["[::1]:7"]);
        check("fe80::1", &["[fe80::1]:9042"]);
    }

    #[test]
    fn batch_sizes() {
        let check = |pairs: &[(&str, &str)], rows: usize, bytes: Option<usize>| {
            let size = sink(pairs).unwrap().write.batch_size;
            assert_eq!((size.rows, bytes.map(|_| size.bytes)), (rows, bytes), "{pairs:?}");
        };
        let (rows, bytes) = ("spark.cassandra.output.batch.size.rows", "spark.cassandra.output.batch.size.bytes");
        check(&[(rows, "10")], 10, None);
        check(&[(rows, "auto"), (bytes, "1024")], 65_535, Some(1024));
        check(&[(rows, "10"), (bytes, "1024")], 10, None);
        refused(&[(rows, "0")], "CASSANDRA_INVALID_OPTION", "above 0");
    }

    #[test]
    fn ttl_and_writetime_are_constants_or_columns() {
        let check =
            |value: &str, expect: Option<PerRow>| assert_eq!(sink(&[("ttl", value)]).unwrap().write.ttl, expect);
        check("60", Some(PerRow::Constant(60)));
        check("0", None);
        check("keep_for", Some(PerRow::Column("keep_for".into())));
        let setting = sink(&[("spark.cassandra.output.timestamp", "5")]).unwrap();
        assert_eq!(setting.write.writetime, Some(PerRow::Constant(5)));
    }

    #[test]
    fn primary_keys() {
        let check = |text: &str, partition: &[&str], clustering: &[&str]| {
            let key: PrimaryKey = text.parse().unwrap();
            assert_eq!(
                (key.partition, key.clustering),
                (partition.iter().map(|c| c.to_string()).collect(), clustering.iter().map(|c| c.to_string()).collect())
            );
        };
        check("id", &["id"], &[]);
        check("a, b", &["a"], &["b"]);
        check("(a,b),c, d", &["a", "b"], &["c", "d"]);
        check("(a)", &["a"], &[]);
        for wrong in ["", "(a", "a,,b", "(a)b", "(a,(b)),c"] {
            assert!(wrong.parse::<PrimaryKey>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn bad_record_policies() {
        let check = |pairs: &[(&str, &str)], expect: BadRecords| {
            assert_eq!(sink(pairs).unwrap().write.bad_records, expect);
        };
        check(&[("headwater.badRecords", "fail")], BadRecords::Fail);
        let table = TableName { keyspace: "k".into(), table: "bad".into() };
        check(&[("headwater.deadLetter.table", "k.bad")], BadRecords::Table(table));
        check(
            &[("headwater.deadLetter.topic", "bad"), ("headwater.deadLetter.kafka.bootstrap.servers", "h:1")],
            BadRecords::Topic {
                topic: "bad".into(),
                options: Options::new([("topic", "bad"), ("kafka.bootstrap.servers", "h:1")]),
            },
        );
        // The prefix would end within a character: another option, whatever becomes of it.
        let odd = ("headwater.deadLetter.kafka\u{e9}/spark.cassandra.x", "1");
        let servers = ("headwater.deadLetter.kafka.bootstrap.servers", "h:1");
        drop(sink(&[("headwater.deadLetter.topic", "bad"), servers, odd]));
        refused(&[("headwater.deadLetter.topic", "bad")], "CASSANDRA_MISSING_OPTION", "bootstrap.servers");
        refused(&[("headwater.badRecords", "dead-letter")], "CASSANDRA_MISSING_OPTION", "headwater.deadLetter.table");
        refused(&[("headwater.deadLetter.columns", "x")], "CASSANDRA_MISSING_OPTION", "headwater.deadLetter.topic");
        refused(
            &[("headwater.badRecords", "fail"), ("headwater.deadLetter.table", "k.b")],
            "CASSANDRA_INVALID_OPTION",
            "remove one",
        );
    }

    #[test]
    fn read_metadata_columns() {
        let options =
            Options::new([("keyspace", "k"), ("table", "t"), ("ttl.name", "name_ttl"), ("writetime.name", "at")]);
        let table = TableOptions::parse(&options).unwrap();
        let expect = |function, alias: &str| MetadataColumn { function, column: "name".into(), alias: alias.into() };
        assert_eq!(
            table.metadata,
            [expect(MetadataFunction::Ttl, "name_ttl"), expect(MetadataFunction::Writetime, "at")]
        );
    }
}
