//! Options of the PostgreSQL source and sink: Spark's JDBC names, ours beside them.
//!
//! Every name is honoured, accepted because it cannot change a result, or refused; an unknown one is refused. So are
//! the parameters of the address, `postgresql://user:password@host:port/database?name=value`, which may be written as
//! `jdbc:postgresql://…` with that driver's parameter names.

use crate::connectors::{Options, dead_letters};
use crate::functions::ddl;
use arrow::datatypes::DataType;
use headwater_proto::error::{Error, Result};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// What is done about a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Support {
    /// It means what Spark's documentation says, or ours.
    Honoured,
    /// Accepted; here it has nothing to act on, and no result depends on it.
    NoEffect,
    /// Refused unless it has this value, with the reason.
    Only(&'static str, &'static str),
    /// Refused, with the reason.
    Refused(&'static str),
}
use Support::{Honoured, NoEffect, Only, Refused};

const KERBEROS: &str = "logins are by password; Kerberos is not supported";
const CLIENT_CERTIFICATE: &str = "logins are by password; client certificates are not supported";

/// Every option there is, as documents spell it; case does not matter.
const NAMES: &[(&str, Support)] = &[
    ("url", Honoured),
    ("user", Honoured),
    ("password", Honoured),
    ("dbtable", Honoured),
    ("query", Honoured),
    ("driver", Only("org.postgresql.Driver", "this is a client of PostgreSQL, not of JDBC")),
    ("partitionColumn", Honoured),
    ("lowerBound", Honoured),
    ("upperBound", Honoured),
    ("numPartitions", Honoured),
    ("queryTimeout", Honoured),
    // Rows arrive as a stream, which waits for whoever reads it.
    ("fetchsize", NoEffect),
    ("batchsize", NoEffect),
    ("isolationLevel", Honoured),
    ("sessionInitStatement", Honoured),
    ("truncate", Honoured),
    ("cascadeTruncate", Honoured),
    ("createTableOptions", Honoured),
    ("createTableColumnTypes", Honoured),
    ("customSchema", Honoured),
    ("preferTimestampNTZ", Honoured),
    ("pushDownPredicate", Honoured),
    ("pushDownLimit", Honoured),
    // Aggregates, offsets and samples are computed here, from the same rows.
    ("pushDownAggregate", NoEffect),
    ("pushDownOffset", NoEffect),
    ("pushDownTableSample", NoEffect),
    ("prepareQuery", Refused("put it into the query, or into sessionInitStatement")),
    ("hint", Refused("PostgreSQL has no hints")),
    ("keytab", Refused(KERBEROS)),
    ("principal", Refused(KERBEROS)),
    ("refreshKrb5Config", Only("false", KERBEROS)),
    ("connectionProvider", Refused("it names code of the JVM")),
    ("sslmode", Honoured),
    ("sslrootcert", Honoured),
    ("upsertKeys", Honoured),
    ("onConflict", Honoured),
    ("retries", Honoured),
    ("headwater.createTable", Honoured),
    ("headwater.primaryKey", Honoured),
    ("headwater.badRecords", Honoured),
    ("headwater.deadLetter.table", Honoured),
    ("headwater.deadLetter.columns", Honoured),
    // What Spark's readers and writers hand to every source.
    ("checkpointLocation", NoEffect),
    ("queryName", NoEffect),
];

/// Every parameter of an address, likewise.
const PARAMETERS: &[(&str, Support)] = &[
    ("user", Honoured),
    ("password", Honoured),
    ("dbname", Honoured),
    ("ssl", Honoured),
    ("sslmode", Honoured),
    ("sslrootcert", Honoured),
    ("connect_timeout", Honoured),
    ("connectTimeout", Honoured),
    ("loginTimeout", Honoured),
    ("application_name", Honoured),
    ("ApplicationName", Honoured),
    ("currentSchema", Honoured),
    ("target_session_attrs", Honoured),
    ("targetServerType", Honoured),
    ("socketTimeout", NoEffect),
    ("tcpKeepAlive", NoEffect),
    ("keepalives", NoEffect),
    ("prepareThreshold", NoEffect),
    ("reWriteBatchedInserts", NoEffect),
    ("stringtype", NoEffect),
    ("binaryTransfer", NoEffect),
    ("defaultRowFetchSize", NoEffect),
    ("sslcert", Refused(CLIENT_CERTIFICATE)),
    ("sslkey", Refused(CLIENT_CERTIFICATE)),
    ("sslpassword", Refused(CLIENT_CERTIFICATE)),
    ("gssencmode", Only("disable", KERBEROS)),
];

/// How the line is encrypted and what is checked, as libpq has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SslMode {
    /// Never.
    Disable,
    /// When the server can; its certificate is not checked.
    Prefer,
    /// Always; the certificate is not checked, unless `sslrootcert` is given: then as `verify-ca`.
    Require,
    /// Always, by a certificate that `sslrootcert` vouches for.
    VerifyCa,
    /// Always, by a trusted certificate of this very host.
    VerifyFull,
}

impl FromStr for SslMode {
    type Err = ();
    fn from_str(text: &str) -> Result<Self, ()> {
        Ok(match text.to_ascii_lowercase().as_str() {
            "disable" => Self::Disable,
            "prefer" | "allow" => Self::Prefer,
            "require" => Self::Require,
            "verify-ca" => Self::VerifyCa,
            "verify-full" => Self::VerifyFull,
            _ => return Err(()),
        })
    }
}

/// How to reach one database: what connections are shared by.
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Connection {
    /// Hosts with their ports, tried in turn.
    pub hosts: Vec<(String, u16)>,
    /// The database.
    pub database: String,
    /// The user.
    pub user: String,
    /// Its password.
    pub password: Option<String>,
    /// Encryption.
    pub ssl: SslMode,
    /// File of root certificates, or `system`.
    pub ssl_root: Option<String>,
    /// Time for one connection to be made.
    pub connect_timeout_ms: u64,
    /// What the server shows as the client's name.
    pub application: String,
    /// Schemas that are searched, when not the user's own.
    pub search_path: Option<String>,
    /// Only a server that takes writes will do.
    pub primary: bool,
    /// Seconds after which the server ends a statement; 0: never.
    pub statement_timeout_s: u64,
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection")
            .field("label", &self.label())
            .field("user", &self.user)
            .field("password", &self.password.as_ref().map(|_| "*********(redacted)"))
            .field("ssl", &self.ssl)
            .finish_non_exhaustive()
    }
}

impl Connection {
    /// `host:port/database`, for messages.
    pub fn label(&self) -> String {
        let hosts: Vec<String> = self.hosts.iter().map(|(host, port)| format!("{host}:{port}")).collect();
        format!("{}/{}", hosts.join(","), self.database)
    }
}

/// A table's name as SQL has it: what stands without quotes is lower case.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct TableName {
    /// The schema, where it is given.
    pub schema: Option<String>,
    /// The table.
    pub table: String,
}

/// A name as SQL wants it, whatever is in it.
pub fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A text as SQL wants it, whatever is in it and however the server is set.
pub fn literal(text: &str) -> String {
    let quoted = text.replace('\'', "''");
    if quoted.contains('\\') { format!(" E'{}'", quoted.replace('\\', "\\\\")) } else { format!("'{quoted}'") }
}

impl TableName {
    /// With both names quoted.
    pub fn sql(&self) -> String {
        match &self.schema {
            Some(schema) => format!("{}.{}", quoted(schema), quoted(&self.table)),
            None => quoted(&self.table),
        }
    }
}

impl fmt::Display for TableName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.schema {
            Some(schema) => write!(f, "{schema}.{}", self.table),
            None => f.write_str(&self.table),
        }
    }
}

/// Names by comma or dot, each perhaps in double quotes.
fn identifiers(text: &str, separator: char) -> Option<Vec<String>> {
    let mut names = vec![];
    let mut rest = text.trim();
    loop {
        let name;
        if let Some(inner) = rest.strip_prefix('"') {
            let mut end = 0;
            loop {
                end += inner[end..].find('"')?;
                if inner[end + 1..].starts_with('"') { end += 2 } else { break }
            }
            name = inner[..end].replace("\"\"", "\"");
            rest = inner[end + 1..].trim_start();
        } else {
            let end = rest.find(separator).unwrap_or(rest.len());
            name = rest[..end].trim().to_lowercase();
            let plain = |c: char| c.is_alphanumeric() || c == '_' || c == '$';
            if name.starts_with(|c: char| c.is_ascii_digit()) || !name.chars().all(plain) {
                return None;
            }
            rest = rest[end..].trim_start();
        }
        if name.is_empty() {
            return None;
        }
        names.push(name);
        match rest.strip_prefix(separator) {
            Some(more) => rest = more.trim_start(),
            None if rest.is_empty() => return Some(names),
            None => return None,
        }
    }
}

impl FromStr for TableName {
    type Err = ();
    fn from_str(text: &str) -> Result<Self, ()> {
        let mut names = identifiers(text, '.').ok_or(())?;
        let table = names.pop().ok_or(())?;
        // A database in front names the one that is connected to anyway.
        match names.len() {
            0 => Ok(Self { schema: None, table }),
            1 => Ok(Self { schema: names.pop(), table }),
            _ => Err(()),
        }
    }
}

/// What is read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Relation {
    /// A table or view.
    Table(TableName),
    /// What stands in `FROM`: a query in parentheses, with its alias.
    Query(String),
}

impl Relation {
    /// What stands in `FROM`.
    pub fn sql(&self) -> String {
        match self {
            Self::Table(name) => name.sql(),
            Self::Query(text) => text.clone(),
        }
    }
}

impl fmt::Display for Relation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Table(name) => write!(f, "table {name}"),
            Self::Query(_) => f.write_str("the query of option query"),
        }
    }
}

/// How a read is split by the values of a column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bounds {
    /// The column: a number, a date or a timestamp.
    pub column: String,
    /// Where the second part begins to be counted from.
    pub lower: String,
    /// Where the last part begins at the latest.
    pub upper: String,
}

/// All that a read is told.
#[derive(Debug, Clone, PartialEq)]
pub struct TableOptions {
    /// The database.
    pub connection: Connection,
    /// What is read.
    pub relation: Relation,
    /// How the read is split.
    pub bounds: Option<Bounds>,
    /// Parts of the read.
    pub partitions: Option<usize>,
    /// Types that columns are read as, by name.
    pub custom_schema: Vec<(String, DataType)>,
    /// `timestamp` is read without a zone, not as UTC.
    pub timestamp_ntz: bool,
    /// Whether filters go to the server.
    pub push_predicate: bool,
    /// Whether limits go to the server.
    pub push_limit: bool,
    /// Runs before each partition's read.
    pub session_init: Option<String>,
    /// Times a statement is repeated before the read fails.
    pub retries_max: u32,
}

/// What happens to a row whose key is in the table already.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum OnConflict {
    /// The row's columns replace those of the table's.
    Update,
    /// The table's row stays.
    Ignore,
    /// The write fails.
    Error,
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
}

impl BadRecords {
    /// The option's value.
    pub fn name(&self) -> &'static str {
        match self {
            BadRecords::Fail => "fail",
            BadRecords::Skip => "skip",
            BadRecords::Table(_) => "dead-letter",
        }
    }
}

/// How much a transaction sees of others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Isolation {
    /// PostgreSQL's default, and its answer to READ UNCOMMITTED.
    ReadCommitted,
    /// A snapshot.
    RepeatableRead,
    /// As if one after the other.
    Serializable,
}

impl Isolation {
    /// The statement that begins a transaction.
    pub fn begin(self) -> &'static str {
        match self {
            Self::ReadCommitted => "BEGIN ISOLATION LEVEL READ COMMITTED",
            Self::RepeatableRead => "BEGIN ISOLATION LEVEL REPEATABLE READ",
            Self::Serializable => "BEGIN ISOLATION LEVEL SERIALIZABLE",
        }
    }
}

/// All that a write is told.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SinkOptions {
    /// The database.
    pub connection: Connection,
    /// The table.
    pub name: TableName,
    /// Columns that tell rows apart, when not the primary key's.
    pub upsert_keys: Option<Vec<String>>,
    /// What happens to a row whose key is there.
    pub on_conflict: OnConflict,
    /// Whether a missing table is created.
    pub create_table: bool,
    /// Primary key of a created table.
    pub primary_key: Vec<String>,
    /// Types of a created table's columns, by name, as PostgreSQL writes them.
    pub column_types: Vec<(String, String)>,
    /// What stands behind the columns of `CREATE TABLE`.
    pub create_options: String,
    /// Overwriting empties the table, rather than making it anew.
    pub truncate: bool,
    /// Emptying it also empties what refers to it.
    pub cascade: bool,
    /// Of the transactions that write.
    pub isolation: Isolation,
    /// Runs before a task writes.
    pub session_init: Option<String>,
    /// Where rows go that cannot be written.
    pub bad_records: BadRecords,
    /// Columns of the rows that dead letters alone hold.
    pub letter_columns: Vec<String>,
    /// Times a window of rows is repeated before the task fails.
    pub retries_max: u32,
}

fn wrong_value(name: &str, value: &str, expected: &str) -> Error {
    Error::invalid("POSTGRES_INVALID_OPTION", format!("option {name} is '{value}': expected {expected}"))
}

fn missing(name: &str, how: &str) -> Error {
    Error::invalid("POSTGRES_MISSING_OPTION", format!("data source postgres needs option {name}{how}"))
}

/// Refuses what is unknown and what cannot be honoured. `what` is `option`, or `parameter` of an address.
fn check_name(names: &[(&str, Support)], what: &str, given: &str, value: &str) -> Result<()> {
    let lower = given.to_ascii_lowercase();
    let unsupported = |why: String| Err(Error::invalid("POSTGRES_UNSUPPORTED_OPTION", why));
    match names.iter().find(|(known, _)| known.eq_ignore_ascii_case(given)).map(|(_, support)| *support) {
        Some(Honoured | NoEffect) => Ok(()),
        Some(Only(allowed, _)) if value.trim().eq_ignore_ascii_case(allowed) => Ok(()),
        Some(Only(allowed, why)) => unsupported(format!("{what} {given} can only be {allowed}: {why}")),
        Some(Refused(why)) => unsupported(format!("{what} {given} is not supported: {why}")),
        None => {
            let similar: Vec<&str> = names
                .iter()
                .map(|(known, _)| *known)
                .filter(|known| {
                    let known = known.to_ascii_lowercase();
                    known.contains(lower.as_str()) || lower.contains(known.as_str())
                })
                .collect();
            let hint = if similar.is_empty() {
                "remove it or correct its spelling".to_string()
            } else {
                format!("similar names are {}", similar.join(", "))
            };
            Err(Error::invalid(
                "POSTGRES_UNKNOWN_OPTION",
                format!("{what} {given} is not known to data source postgres: {hint}"),
            ))
        }
    }
}

fn boolean(options: &Options, name: &str, default: bool) -> Result<bool> {
    match options.get(name).map(str::trim) {
        None => Ok(default),
        Some(text) if text.eq_ignore_ascii_case("true") => Ok(true),
        Some(text) if text.eq_ignore_ascii_case("false") => Ok(false),
        Some(text) => Err(wrong_value(name, text, "true or false")),
    }
}

fn number<T: FromStr>(options: &Options, name: &str, expected: &str) -> Result<Option<T>> {
    options.get(name).map(str::trim).map(|text| text.parse().map_err(|_| wrong_value(name, text, expected))).transpose()
}

fn text<'a>(options: &'a Options, name: &str) -> Option<&'a str> {
    options.get(name).map(str::trim).filter(|text| !text.is_empty())
}

/// `%20` and the like; none when what follows a `%` is not hexadecimal, or the bytes are not text.
fn percent_decoded(text: &str) -> Option<String> {
    let mut bytes = vec![];
    let mut rest = text.as_bytes();
    while let Some((first, more)) = rest.split_first() {
        rest = more;
        if *first == b'%' {
            let (digits, more) = rest.split_at_checked(2)?;
            bytes.push(u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?);
            rest = more;
        } else {
            bytes.push(*first);
        }
    }
    String::from_utf8(bytes).ok()
}

const URL: &str = "postgresql://user:password@host:port/database or jdbc:postgresql://host:port/database";

/// What an address says. Nothing of it goes into an error: it may hold a password.
#[derive(Default)]
struct Address {
    hosts: Vec<(String, u16)>,
    database: Option<String>,
    parameters: Options,
}

fn address(url: &str) -> Result<Address> {
    let invalid = |why: &str| {
        Error::invalid(
            "POSTGRES_INVALID_OPTION",
            format!("option url is not an address of PostgreSQL ({why}): give {URL}"),
        )
    };
    let lower = url.to_ascii_lowercase();
    if let Some(other) = lower.strip_prefix("jdbc:").filter(|rest| !rest.starts_with("postgresql:")) {
        let system = other.split(':').next().unwrap_or_default();
        return Err(Error::invalid(
            "UNSUPPORTED_FEATURE",
            format!("data source jdbc reads and writes PostgreSQL alone, not {system}: give {URL}"),
        ));
    }
    let rest = ["jdbc:postgresql:", "postgresql:", "postgres:"]
        .iter()
        .find_map(|scheme| lower.starts_with(scheme).then(|| &url[scheme.len()..]))
        .ok_or_else(|| invalid("it begins otherwise"))?;
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (authority, database) = match rest.strip_prefix("//") {
        Some(rest) => rest.split_once('/').unwrap_or((rest, "")),
        // `jdbc:postgresql:database` is of this host.
        None => ("", rest),
    };
    let decoded = |part: &str| percent_decoded(part).ok_or_else(|| invalid("a % is not followed by two digits"));
    let mut parameters = Options::default();
    let hosts = match authority.rsplit_once('@') {
        Some((login, hosts)) => {
            let (user, password) = login.split_once(':').map_or((login, None), |(user, word)| (user, Some(word)));
            parameters.set("user", decoded(user)?);
            if let Some(password) = password {
                parameters.set("password", decoded(password)?);
            }
            hosts
        }
        None => authority,
    };
    for parameter in query.split('&').filter(|parameter| !parameter.is_empty()) {
        let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
        let (name, value) = (decoded(name)?, decoded(value)?);
        check_name(PARAMETERS, "parameter", &name, &value)?;
        parameters.set(name, value);
    }
    let mut all = vec![];
    for host in hosts.split(',').map(str::trim).filter(|host| !host.is_empty()) {
        let (name, port) = match host.rsplit_once(':') {
            Some((name, port)) if !port.ends_with(']') => (name, port),
            _ => (host, "5432"),
        };
        let port = port.parse().map_err(|_| invalid("a port is not a number"))?;
        all.push((decoded(name.trim_start_matches('[').trim_end_matches(']'))?, port));
    }
    if all.is_empty() {
        all.push(("localhost".into(), 5432));
    }
    let database = Some(decoded(database)?).filter(|name| !name.is_empty());
    Ok(Address { hosts: all, database, parameters })
}

impl Connection {
    /// From options `url`, `user`, `password`, `sslmode`, `sslrootcert`, `queryTimeout`.
    ///
    /// # Errors
    /// What is missing, unknown or cannot be parsed, by name; never with a password in it.
    pub fn parse(options: &Options) -> Result<Self> {
        let url = text(options, "url").ok_or_else(|| missing("url", &format!(", {URL}")))?;
        let Address { hosts, database, parameters } = address(url)?;
        // What the options say comes before what the address says, as in Spark.
        let either = |name: &str| text(options, name).or_else(|| text(&parameters, name));
        let user = either("user").ok_or_else(|| missing("user", ", or a user in option url"))?.to_string();
        let ssl_root = either("sslrootcert").map(String::from);
        let ssl = match either("sslmode") {
            Some(mode) => mode
                .parse()
                .map_err(|()| wrong_value("sslmode", mode, "disable, prefer, require, verify-ca or verify-full"))?,
            None => match text(&parameters, "ssl") {
                // As the JDBC driver: `ssl=true`, or `ssl` alone, checks everything.
                Some("false") => SslMode::Disable,
                Some(_) => SslMode::VerifyFull,
                None if parameters.get("ssl").is_some() => SslMode::VerifyFull,
                None => SslMode::Prefer,
            },
        };
        if ssl == SslMode::VerifyCa && ssl_root.as_deref().is_none_or(|root| root == "system") {
            return Err(Error::invalid(
                "POSTGRES_MISSING_OPTION",
                "sslmode verify-ca needs sslrootcert, the file of the authority's certificates; verify-full does \
                 without, by those of the system",
            ));
        }
        let seconds = ["connect_timeout", "connectTimeout", "loginTimeout"].iter().find_map(|name| {
            text(&parameters, name)
                .map(|given| given.parse::<u64>().map_err(|_| wrong_value(name, given, "a whole number of seconds")))
        });
        let attributes = text(&parameters, "target_session_attrs").or_else(|| text(&parameters, "targetServerType"));
        let primary = match attributes.map(str::to_ascii_lowercase).as_deref() {
            None | Some("any") => false,
            Some("read-write" | "primary" | "master") => true,
            Some(other) => return Err(wrong_value("target_session_attrs", other, "any, read-write or primary")),
        };
        let password = options.get("password").or_else(|| parameters.get("password")).map(String::from);
        Ok(Self {
            hosts,
            database: database
                .or_else(|| text(&parameters, "dbname").map(String::from))
                .unwrap_or_else(|| user.clone()),
            password: password.filter(|password| !password.is_empty()),
            user,
            ssl,
            ssl_root,
            // 0 is "for ever" in both dialects; nothing here waits for ever.
            connect_timeout_ms: seconds.transpose()?.filter(|seconds| *seconds > 0).unwrap_or(10).saturating_mul(1000),
            application: text(&parameters, "application_name")
                .or_else(|| text(&parameters, "ApplicationName"))
                .unwrap_or("headwater")
                .to_string(),
            search_path: text(&parameters, "currentSchema").map(String::from),
            primary,
            statement_timeout_s: number(options, "queryTimeout", "a whole number of seconds")?.unwrap_or(0),
        })
    }
}

fn check_names(options: &Options) -> Result<()> {
    options.iter().try_for_each(|(name, value)| check_name(NAMES, "option", name, value))
}

fn retries(options: &Options) -> Result<u32> {
    Ok(number(options, "retries", "a whole number")?.unwrap_or(10))
}

impl TableOptions {
    /// Reads and checks the options of a read.
    ///
    /// # Errors
    /// A name that is unknown or cannot be honoured, or a value that does not parse; the message names it.
    pub fn parse(options: &Options) -> Result<Self> {
        check_names(options)?;
        let relation = match (text(options, "dbtable"), text(options, "query")) {
            (Some(_), Some(_)) => {
                return Err(Error::invalid(
                    "POSTGRES_INVALID_OPTION",
                    "options dbtable and query exclude each other: keep one",
                ));
            }
            (None, None) => return Err(missing("dbtable", " or query")),
            (None, Some(query)) => {
                Relation::Query(format!("({}) AS headwater_query", query.trim_end_matches(';').trim_end()))
            }
            (Some(table), None) if table.starts_with('(') => Relation::Query(table.into()),
            (Some(table), None) => Relation::Table(
                table
                    .parse()
                    .map_err(|()| wrong_value("dbtable", table, "table, schema.table, or a (query) with an alias"))?,
            ),
        };
        let partitions: Option<usize> = number(options, "numPartitions", "a whole number above 0")?;
        if partitions == Some(0) {
            return Err(wrong_value("numPartitions", "0", "a whole number above 0"));
        }
        let bounds = match ["partitionColumn", "lowerBound", "upperBound"].map(|name| text(options, name)) {
            [Some(column), Some(lower), Some(upper)] => {
                if text(options, "query").is_some() {
                    return Err(Error::invalid(
                        "POSTGRES_INVALID_OPTION",
                        "options query and partitionColumn exclude each other: give the query as dbtable, \
                         '(SELECT …) AS name'",
                    ));
                }
                let names = identifiers(column, ',').filter(|names| names.len() == 1);
                let column = names
                    .and_then(|mut names| names.pop())
                    .ok_or_else(|| wrong_value("partitionColumn", column, "the name of one column"))?;
                if partitions.is_none() {
                    return Err(missing("numPartitions", " with partitionColumn"));
                }
                Some(Bounds { column, lower: lower.into(), upper: upper.into() })
            }
            [None, None, None] => None,
            _ => {
                return Err(Error::invalid(
                    "POSTGRES_MISSING_OPTION",
                    "options partitionColumn, lowerBound and upperBound belong together: give all or none",
                ));
            }
        };
        let custom_schema = match text(options, "customSchema") {
            None => vec![],
            Some(text) => ddl::parse_ddl(text)?
                .fields()
                .iter()
                .map(|field| (field.name().clone(), field.data_type().clone()))
                .collect(),
        };
        Ok(Self {
            connection: Connection::parse(options)?,
            relation,
            bounds,
            partitions,
            custom_schema,
            timestamp_ntz: boolean(options, "preferTimestampNTZ", false)?,
            push_predicate: boolean(options, "pushDownPredicate", true)?,
            push_limit: boolean(options, "pushDownLimit", true)?,
            session_init: text(options, "sessionInitStatement").map(String::from),
            retries_max: retries(options)?,
        })
    }
}

/// `id uuid, price numeric(10, 2)`: names, and types as PostgreSQL writes them.
fn column_types(text: &str) -> Option<Vec<(String, String)>> {
    let mut types = vec![];
    let (mut depth, mut from) = (0usize, 0);
    let mut parts = vec![];
    for (at, c) in text.char_indices() {
        match c {
            '(' => depth += 1,
            ')' => depth = depth.checked_sub(1)?,
            ',' if depth == 0 => {
                parts.push(&text[from..at]);
                from = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[from..]);
    for part in parts {
        let (name, sql) = part.trim().split_once(char::is_whitespace)?;
        // A type is words, numbers and brackets: nothing that could end the statement.
        let plain = |c: char| c.is_ascii_alphanumeric() || "_ ,()[].\"".contains(c);
        if sql.trim().is_empty() || !sql.chars().all(plain) {
            return None;
        }
        types.push((name.trim_matches(['`', '"']).to_string(), sql.trim().to_string()));
    }
    Some(types)
}

impl SinkOptions {
    /// Reads and checks the options of a write.
    ///
    /// # Errors
    /// A name that is unknown or cannot be honoured, or a value that does not parse; the message names it.
    pub fn parse(options: &Options) -> Result<Self> {
        check_names(options)?;
        if text(options, "query").is_some() {
            return Err(Error::invalid(
                "POSTGRES_INVALID_OPTION",
                "option query is for reading: name the table to write in option dbtable",
            ));
        }
        let table = text(options, "dbtable").ok_or_else(|| missing("dbtable", ", the table to write"))?;
        let columns = |name: &str| {
            text(options, name)
                .map(|given| {
                    identifiers(given.trim_start_matches('(').trim_end_matches(')'), ',')
                        .ok_or_else(|| wrong_value(name, given, "column names by comma"))
                })
                .transpose()
        };
        let on_conflict = match text(options, "onConflict").map(str::to_ascii_lowercase).as_deref() {
            None | Some("update") => OnConflict::Update,
            Some("ignore") => OnConflict::Ignore,
            Some("error") => OnConflict::Error,
            Some(other) => return Err(wrong_value("onConflict", other, "update, ignore or error")),
        };
        let isolation = match text(options, "isolationLevel").map(str::to_ascii_uppercase).as_deref() {
            None | Some("NONE" | "READ_UNCOMMITTED" | "READ_COMMITTED") => Isolation::ReadCommitted,
            Some("REPEATABLE_READ") => Isolation::RepeatableRead,
            Some("SERIALIZABLE") => Isolation::Serializable,
            Some(other) => {
                let expected = "NONE, READ_UNCOMMITTED, READ_COMMITTED, REPEATABLE_READ or SERIALIZABLE";
                return Err(wrong_value("isolationLevel", other, expected));
            }
        };
        let letters = text(options, "headwater.deadLetter.table")
            .map(|given| {
                given.parse().map_err(|()| wrong_value("headwater.deadLetter.table", given, "table or schema.table"))
            })
            .transpose()?;
        let policy = text(options, "headwater.badRecords").map(str::to_ascii_lowercase);
        let bad_records = match (policy.as_deref(), letters) {
            (None | Some("skip"), None) => BadRecords::Skip,
            (Some("fail"), None) => BadRecords::Fail,
            (None | Some("dead-letter" | "deadletter"), Some(table)) => BadRecords::Table(table),
            (Some("dead-letter" | "deadletter"), None) => {
                return Err(missing("headwater.deadLetter.table", " when headwater.badRecords is dead-letter"));
            }
            (Some(policy @ ("skip" | "fail")), Some(_)) => {
                return Err(Error::invalid(
                    "POSTGRES_INVALID_OPTION",
                    format!(
                        "option headwater.badRecords is {policy}, yet headwater.deadLetter.table is given: remove one"
                    ),
                ));
            }
            (Some(other), _) => return Err(wrong_value("headwater.badRecords", other, "skip, fail or dead-letter")),
        };
        let letter_columns = dead_letters::columns(options);
        if !letter_columns.is_empty() && !matches!(bad_records, BadRecords::Table(_)) {
            return Err(missing("headwater.deadLetter.table", " when headwater.deadLetter.columns is given"));
        }
        let column_types = match text(options, "createTableColumnTypes") {
            None => vec![],
            Some(given) => column_types(given).ok_or_else(|| {
                wrong_value("createTableColumnTypes", given, "columns with types: id uuid, at timestamptz")
            })?,
        };
        Ok(Self {
            connection: Connection::parse(options)?,
            name: table.parse().map_err(|()| wrong_value("dbtable", table, "table or schema.table"))?,
            upsert_keys: columns("upsertKeys")?,
            on_conflict,
            create_table: boolean(options, "headwater.createTable", false)?,
            primary_key: columns("headwater.primaryKey")?.unwrap_or_default(),
            column_types,
            create_options: text(options, "createTableOptions").unwrap_or_default().to_string(),
            truncate: boolean(options, "truncate", false)?,
            cascade: boolean(options, "cascadeTruncate", false)?,
            isolation,
            session_init: text(options, "sessionInitStatement").map(String::from),
            bad_records,
            letter_columns,
            retries_max: retries(options)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connection(pairs: &[(&str, &str)]) -> Result<Connection> {
        Connection::parse(&Options::new(pairs.iter().copied()))
    }

    #[test]
    fn addresses() {
        let check = |url: &str, expect: &str| {
            let found = connection(&[("url", url), ("user", "u")]);
            let shown = found.map(|found| format!("{} {:?} {:?}", found.label(), found.password.as_deref(), found.ssl));
            match shown {
                Ok(shown) => assert_eq!(shown, expect, "{url}"),
                Err(error) => assert!(error.message.contains(expect), "{url}: {error}"),
            }
        };
        check("postgresql://me:pw@h:1/db", "h:1/db Some(\"pw\") Prefer");
        check("postgresql://u:p%40ss%2F1%20%C3%BC%25@h/d", "h:5432/d Some(\"p@ss/1 ü%\") Prefer");
        check("postgres://me:p%40%2Fw@h/db?sslmode=disable", "h:5432/db Some(\"p@/w\") Disable");
        check("jdbc:postgresql://h:1/db?user=me&password=pw&ssl=true", "h:1/db Some(\"pw\") VerifyFull");
        check("jdbc:postgresql://a:1,b/db?currentSchema=s", "a:1,b:5432/db None Prefer");
        check("postgresql://[::1]:7/db", "::1:7/db None Prefer");
        check("jdbc:postgresql:db", "localhost:5432/db None Prefer");
        check("postgresql://h", "h:5432/u None Prefer");
        check("jdbc:mysql://h/db", "not mysql");
        check("http://h/db", "begins otherwise");
        check("postgresql://h:x/db", "port");
        check("postgresql://h/db?nonsense=1", "parameter nonsense is not known");
        check("postgresql://h/db?sslcert=f", "client certificates");
        check("postgresql://h/db?sslmode=verify-ca", "sslrootcert");
        check("postgresql://h/db?sslmode=maybe", "verify-full");
    }

    #[test]
    fn the_options_come_before_the_address() {
        let pairs = [("url", "postgresql://a:b@h/db"), ("user", "c"), ("password", "d"), ("sslmode", "require")];
        let found = connection(&pairs).unwrap();
        assert_eq!((found.user.as_str(), found.password.as_deref(), found.ssl), ("c", Some("d"), SslMode::Require));
        assert!(connection(&[("url", "postgresql://h/db")]).unwrap_err().message.contains("user"));
        let shown = format!("{found:?} {:?}", TableOptions::parse(&Options::new(pairs)));
        assert!(!shown.contains("\"d\""), "{shown}");
    }

    #[test]
    fn table_names() {
        let check = |text: &str, expect: Option<&str>| {
            assert_eq!(text.parse::<TableName>().ok().map(|name| name.sql()).as_deref(), expect, "{text}");
        };
        check("Users", Some("\"users\""));
        check("s.\"Users\"", Some("\"s\".\"Users\""));
        check("\"a.b\".\"c\"\"d\"", Some("\"a.b\".\"c\"\"d\""));
        check("a.b.c", None);
        check("a; drop table b", None);
        check("", None);
        check("\"a", None);
    }

    #[test]
    fn what_is_not_known_is_refused() {
        let base = [("url", "postgresql://u@h/db"), ("dbtable", "t")];
        let check = |name: &str, value: &str, expect: &str| {
            let mut options = Options::new(base);
            options.set(name, value);
            let read = TableOptions::parse(&options).map(|_| ());
            let error = read.and(SinkOptions::parse(&options).map(|_| ())).unwrap_err();
            assert!(error.to_string().contains(expect), "{name}: {error}");
        };
        check("fetch", "1", "similar names are fetchsize");
        check("badrecords", "skip", "similar names are headwater.badRecords");
        check("keytab", "f", "Kerberos");
        check("driver", "com.mysql.jdbc.Driver", "org.postgresql.Driver");
        check("numPartitions", "0", "above 0");
        check("partitionColumn", "id", "belong together");
        check("query", "SELECT 1", "exclude each other");
        check("onConflict", "merge", "update, ignore or error");
        check("isolationLevel", "CHAOS", "SERIALIZABLE");
        check("headwater.badRecords", "dead-letter", "headwater.deadLetter.table");
        check("headwater.deadLetter.columns", "x", "headwater.deadLetter.table");
        check("createTableColumnTypes", "id uuid); drop table t", "columns with types");
        check("truncate", "maybe", "true or false");
        check("upsertKeys", "a b", "column names");
    }

    #[test]
    fn writes() {
        let options = SinkOptions::parse(&Options::new([
            ("url", "postgresql://u@h/db"),
            ("dbtable", "s.t"),
            ("upsertKeys", "run_id, \"Page\""),
            ("createTableColumnTypes", "id uuid, price numeric(10, 2)"),
            ("headwater.deadLetter.table", "s.bad"),
        ]))
        .unwrap();
        assert_eq!(options.upsert_keys.unwrap(), ["run_id", "Page"]);
        assert_eq!(options.column_types[1], ("price".to_string(), "numeric(10, 2)".to_string()));
        assert_eq!(options.bad_records, BadRecords::Table("s.bad".parse().unwrap()));
    }

    #[test]
    fn texts_are_quoted_whatever_is_in_them() {
        let check = |text: &str, expect: &str| assert_eq!(literal(text), expect);
        check("a'b", "'a''b'");
        check("a\\'b", " E'a\\\\''b'");
        assert_eq!(quoted("a\"b"), "\"a\"\"b\"");
    }
}
