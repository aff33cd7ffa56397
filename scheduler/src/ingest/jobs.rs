//! The jobs of a run, as SQL over connectors: private tables of a session, so that the catalog knows nothing of them.
//!
//! | job | from | to |
//! |---|---|---|
//! | fetch | `randomuser`, some pages | arrivals in PostgreSQL |
//! | send | unpublished users in PostgreSQL, one slice | the topic |
//! | scan | the topic, from an attempt's starting offsets | deliveries in PostgreSQL |

use super::decide::partition_pages;
use super::request::{Format, PUBLIC_SOURCE, Page, Request};
use super::store::{self, ARRIVALS, DELIVERIES, USER_COLUMNS, USERS};
use crate::execute::{Outcome, Statements};
use crate::session::Session;
use crate::sql::catalog::TableDefinition;
use crate::sql::parser;
use crate::streaming::manager::StartOptions;
use headwater_executor::connectors::{Options, postgres, secrets};
use headwater_proto::error::{Error, Result};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use uuid::Uuid;

/// A job that takes longer is cancelled and made again: a task whose status report was lost never ends by itself.
const JOB_MAX: Duration = Duration::from_secs(900);
/// A record that is not acknowledged by then never will be: so long, at most, something may still arrive after a job
/// was cut off.
const DELIVERY_MAX_MS: u64 = 10_000;
/// The same of a run of an earlier version that named no end. None of that version's processes lives: this is for what
/// the line or a broker still held of theirs.
const DELIVERY_ENDLESS_MS: u64 = 300_000;

/// A statement and the tables that it names.
#[derive(Clone, PartialEq)]
pub struct Job {
    sql: String,
    tables: Vec<TableDefinition>,
    /// Settings of the session: the registry's, which may be secrets, and so do not stand in the text.
    conf: BTreeMap<String, String>,
    /// Its tasks are not repeated by the cluster.
    single_attempt: bool,
}

/// Records of one attempt to publish: half-open ranges of offsets by partition.
pub type Ranges = BTreeMap<i32, (i64, i64)>;

impl Job {
    /// Fetches pages into arrivals.
    pub fn fetch(run: &str, request: &Request, seed: &str, pages: &[Page]) -> Self {
        let numbers: Vec<String> = pages.iter().map(|page| page.page.to_string()).collect();
        let mut source = Options::new([
            ("users", request.users.to_string()),
            ("pageSize", request.page_size.to_string()),
            ("pages", numbers.join(",")),
            ("pagesPerPartition", partition_pages(pages.len()).to_string()),
            ("seed", seed.to_string()),
            ("keepRaw", request.keep_raw.to_string()),
            // The budget is kept here, so that no task waits for it in a slot.
            ("usersPerWindow", "0".to_string()),
            ("requestsPerSecond", "0".to_string()),
            // Soon told to the run, which says so and tries on.
            ("retries", "3".to_string()),
            // At once: the run waits, and with it every task of it.
            ("retryAfterMax", "0".to_string()),
        ]);
        if request.source != PUBLIC_SOURCE {
            source.set("url", &request.source);
        }
        if !request.nat.is_empty() {
            source.set("nat", &request.nat);
        }
        let mut target = store::options(&request.postgres);
        target.set("dbtable", ARRIVALS);
        target.set("headwater.badRecords", "fail");
        let columns = columns(USER_COLUMNS.iter().chain(&["page", "position", "raw", "rejected"]));
        Self {
            sql: format!("INSERT INTO arrivals BY NAME SELECT {} AS run_id, {columns} FROM source", literal(run)),
            tables: vec![
                TableDefinition::new("source", "randomuser", source),
                TableDefinition::new("arrivals", "postgres", target),
            ],
            conf: BTreeMap::new(),
            single_attempt: false,
        }
    }

    /// Sends slice `part` of `parts` of an attempt.
    pub fn send(run: &str, request: &Request, attempt: i32, last_id: Uuid, (part, parts): (i32, i32)) -> Self {
        let owner = postgres::literal(run);
        let mut source = store::options(&request.postgres);
        source.set(
            "query",
            format!(
                "SELECT {} FROM {USERS} WHERE publisher = {owner} AND published_at IS NULL AND id <= '{last_id}' \
                 AND get_byte(uuid_send(id), 15) % {parts} = {part}",
                USER_COLUMNS.join(", ")
            ),
        );
        // Before any row is read, and so before any is sent: a task that runs again stops here.
        source.set("sessionInitStatement", format!("SELECT headwater.claim_slice({owner}, {attempt}, {part})"));
        let mut target = request.kafka_options();
        for (key, value) in [("kafka.delivery.timeout.ms", DELIVERY_MAX_MS), ("kafka.linger.ms", 5)] {
            if target.get(key).is_none() {
                target.set(key, value.to_string());
            }
        }
        // What conflicts with it is refused then, and not given up for it.
        target.set("kafka.enable.idempotence", "true");
        // A producer for each slice: tasks that share one wait for each other's records.
        if target.get("kafka.client.id").is_none() {
            target.set("kafka.client.id", format!("headwater-ingest-{part}"));
        }
        target.set("topic", &request.topic);
        Self {
            sql: format!("INSERT INTO topic SELECT `id` AS key, {} AS value FROM staged", value(request)),
            tables: vec![
                TableDefinition::new("staged", "postgres", source),
                TableDefinition::new("topic", "kafka", target),
            ],
            conf: request
                .options
                .iter()
                .filter(|(key, _)| key.to_ascii_lowercase().starts_with("schema.registry."))
                .map(|(key, value)| (key.to_string(), value.to_string()))
                .collect(),
            // A second one would find its slice claimed, and say that in place of why the first one failed.
            single_attempt: true,
        }
    }

    /// Finds users among the records of an attempt.
    pub fn scan(run: &str, request: &Request, attempt: i32, ranges: &Ranges) -> Self {
        let offsets = |end: bool| {
            let partitions: BTreeMap<String, i64> = ranges
                .iter()
                .map(|(partition, (from, until))| (partition.to_string(), if end { *until } else { *from }))
                .collect();
            serde_json::json!({ request.topic.as_str(): partitions }).to_string()
        };
        let assigned: BTreeSet<i32> = ranges.keys().copied().collect();
        let mut source = request.kafka_options();
        source.set("assign", serde_json::json!({ request.topic.as_str(): assigned }).to_string());
        source.set("startingOffsets", offsets(false));
        source.set("endingOffsets", offsets(true));
        // What the topic no longer has cannot be found, now or later: it must not keep the attempt open for ever.
        source.set("failOnDataLoss", "false");
        let mut target = store::options(&request.postgres);
        target.set("dbtable", DELIVERIES);
        target.set("headwater.badRecords", "fail");
        Self {
            // The topic may hold records of others.
            sql: format!(
                "INSERT INTO deliveries BY NAME SELECT {} AS run_id, CAST({attempt} AS INT) AS attempt, \
                 `partition` AS topic_partition, `offset` AS record_offset, user_id \
                 FROM (SELECT `partition`, `offset`, CAST(`key` AS STRING) AS user_id FROM records) \
                 WHERE user_id RLIKE '^[0-9a-f]{{8}}-[0-9a-f]{{4}}-[0-9a-f]{{4}}-[0-9a-f]{{4}}-[0-9a-f]{{12}}$'",
                literal(run)
            ),
            tables: vec![
                TableDefinition::new("records", "kafka", source),
                TableDefinition::new("deliveries", "postgres", target),
            ],
            conf: BTreeMap::new(),
            single_attempt: false,
        }
    }

    /// Runs it on the executors. Dropped, it is cancelled.
    ///
    /// # Errors
    /// Those of the connectors; `JOB_DEADLINE_EXCEEDED`, which is transient.
    pub async fn run(self, statements: &Statements) -> Result<()> {
        let statement = match parser::parse(&self.sql)?.as_slice() {
            [statement] => statement.clone(),
            other => return Err(Error::internal(format!("a job of an ingest run is {} statements", other.len()))),
        };
        let conf = secrets::resolve(&Options::new(self.conf))?;
        let conf = conf.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect();
        let mut session = Session { single_attempt: self.single_attempt, ..Session::new(conf)? };
        session.views.extend(self.tables.into_iter().map(|table| (table.name.clone(), table)));
        let options = StartOptions::default();
        let run = statements.execute(&statement, &mut session, &options, None);
        match tokio::time::timeout(JOB_MAX, run).await {
            Ok(Ok(Outcome::Message(message))) => {
                tracing::debug!(message, "job of an ingest run ended");
                Ok(())
            }
            Ok(Ok(_)) => Err(Error::internal("a job of an ingest run gave rows")),
            Ok(Err(error)) => Err(error),
            Err(_) => Err(Error::transient(
                "JOB_DEADLINE_EXCEEDED",
                format!("a job of the run had not finished after {JOB_MAX:?}; cancelled"),
            )),
        }
    }
}

/// How long after the end of a job that was cut off its records may still arrive, be it one of an earlier version, which
/// took the time by either name, and 0 for no end.
pub fn delivery_max(request: &Request) -> Duration {
    let asked = |key: &str| match request.options.get(key)?.trim().parse::<u64>().ok()? {
        0 => Some(DELIVERY_ENDLESS_MS),
        time => Some(time),
    };
    let time = asked("kafka.delivery.timeout.ms").unwrap_or(DELIVERY_MAX_MS);
    Duration::from_millis(time.max(asked("kafka.message.timeout.ms").unwrap_or_default()))
}

/// The message that `protobuf` writes, unless the request names one of the registry's.
const MESSAGE: &str = r#"syntax = "proto3";
package headwater;
import "google/protobuf/timestamp.proto";
message User {
  string id = 1;
  optional string first_name = 2;
  optional string last_name = 3;
  optional string gender = 4;
  optional string address = 5;
  optional string post_code = 6;
  optional string email = 7;
  optional string username = 8;
  optional string dob = 9;
  optional string registered_date = 10;
  optional string phone = 11;
  optional string picture = 12;
  optional string country = 13;
  optional string city = 14;
  optional string nat = 15;
  optional double latitude = 16;
  optional double longitude = 17;
  optional google.protobuf.Timestamp ingested_at = 18;
}
"#;
const MESSAGE_NAME: &str = "headwater.User";

/// The expression of a record's value.
fn value(request: &Request) -> String {
    let fields: Vec<_> = USER_COLUMNS.iter().map(|column| format!("'{column}', `{column}`")).collect();
    let user = format!("named_struct({})", fields.join(", "));
    let subject = format!("{}-value", request.topic);
    let registry = request.schema_registry.as_str();
    match request.format {
        Format::Json => format!("to_json({user})"),
        Format::Avro => {
            let options = map(&[("recordName", "User"), ("recordNamespace", "headwater")]);
            format!("to_avro({user}, {}, {}, {options})", literal(&subject), literal(registry))
        }
        Format::Protobuf => {
            let mut options =
                vec![("schema.registry.subject", subject.as_str()), ("schema.registry.address", registry)];
            let name = request.message_name().unwrap_or_else(|| {
                options.push(("schema.registry.schema", MESSAGE));
                MESSAGE_NAME
            });
            format!("to_protobuf({user}, {}, {})", literal(name), map(&options))
        }
    }
}

fn map(options: &[(&str, &str)]) -> String {
    let pairs: Vec<_> = options.iter().map(|(key, value)| format!("{}, {}", literal(key), literal(value))).collect();
    format!("map({})", pairs.join(", "))
}

fn columns<'a>(names: impl Iterator<Item = &'a &'a str>) -> String {
    names.map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

/// A text in Spark's SQL.
fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use headwater_proto::engine::StartIngestRequest;

    fn request(change: impl Fn(&mut StartIngestRequest)) -> Request {
        let mut request = StartIngestRequest {
            source: "http://mirror/api/".into(),
            users: 2500,
            topic: "users".into(),
            postgres: "postgresql://u:hunter2@h/d".into(),
            kafka: "k:1".into(),
            ..StartIngestRequest::default()
        };
        change(&mut request);
        Request::parse(&request, None).expect("good")
    }

    #[test]
    fn every_job_is_one_statement_without_secrets() {
        let avro = request(|r| {
            (r.format, r.schema_registry) = ("avro".into(), "http://r:1".into());
            r.options.insert("schema.registry.basic.auth.user.info".into(), "u:hunter2".into());
        });
        let protobuf = request(|r| (r.format, r.schema_registry) = ("protobuf".into(), "http://r:1".into()));
        let json = request(|_| {});
        let run = r"it's \a run";
        let jobs = [
            Job::fetch(run, &json, "seed", &json.pages()),
            Job::send(run, &json, 1, Uuid::nil(), (0, 2)),
            Job::send(run, &avro, 1, Uuid::nil(), (0, 2)),
            Job::send(run, &protobuf, 1, Uuid::nil(), (0, 2)),
            Job::scan(run, &json, 1, &Ranges::from([(0, (5, 9))])),
        ];
        for job in jobs {
            assert_eq!(parser::parse(&job.sql).expect(&job.sql).len(), 1);
            assert!(!job.sql.contains("hunter2"), "{}", job.sql);
        }
    }

    #[test]
    fn options_of_the_tables() {
        let asked = request(|r| {
            r.nat = "de".into();
            r.options.insert("kafka.linger.ms".into(), "0".into());
        });
        let get = |job: &Job, table: usize, key: &str| job.tables[table].options.get(key).map(str::to_string);
        let fetch = Job::fetch("r", &asked, "s", &asked.pages()[1..]);
        assert_eq!(get(&fetch, 0, "pages").as_deref(), Some("2,3"));
        assert_eq!(get(&fetch, 0, "nat").as_deref(), Some("DE"));
        let send = Job::send("it's", &asked, 7, Uuid::nil(), (1, 4));
        let claim = "SELECT headwater.claim_slice('it''s', 7, 1)";
        assert_eq!(get(&send, 0, "sessionInitStatement").as_deref(), Some(claim));
        assert!(get(&send, 0, "query").is_some_and(|query| query.ends_with("% 4 = 1")));
        assert_eq!(get(&send, 1, "kafka.linger.ms").as_deref(), Some("0"));
        let scan = Job::scan("r", &asked, 7, &Ranges::from([(0, (5, 9)), (1, (-2, 3))]));
        assert_eq!(get(&scan, 0, "startingOffsets").as_deref(), Some(r#"{"users":{"0":5,"1":-2}}"#));
        assert_eq!(get(&scan, 0, "endingOffsets").as_deref(), Some(r#"{"users":{"0":9,"1":3}}"#));
        assert_eq!(get(&scan, 0, "assign").as_deref(), Some(r#"{"users":[0,1]}"#));
        assert_eq!(get(&scan, 0, "failOnDataLoss").as_deref(), Some("false"));
    }

    #[test]
    fn options_of_an_earlier_version() {
        let asked = |options: &[(&str, &str)]| {
            request(|r| r.options.extend(options.iter().map(|(key, value)| (key.to_string(), value.to_string()))))
        };
        let old = asked(&[
            ("kafka.acks", "1"),
            ("kafka.enable.idempotence", "false"),
            ("kafka.max.in.flight", "9"),
            ("kafka.message.timeout.ms", "60000"),
            ("kafka.compression.type", "lz4"),
        ]);
        let send = Job::send("r", &old, 1, Uuid::nil(), (0, 1));
        for (key, expect) in [
            ("kafka.acks", None),
            ("kafka.enable.idempotence", Some("true")),
            ("kafka.max.in.flight", None),
            ("kafka.message.timeout.ms", None),
            ("kafka.delivery.timeout.ms", Some("10000")),
            ("kafka.compression.type", Some("lz4")),
        ] {
            assert_eq!(send.tables[1].options.get(key), expect, "{key}");
        }
        let check = |options: &[(&str, &str)], expect_ms: u64| {
            assert_eq!(delivery_max(&asked(options)), Duration::from_millis(expect_ms), "{options:?}");
        };
        let (delivery, message) = ("kafka.delivery.timeout.ms", "kafka.message.timeout.ms");
        check(&[], 10_000);
        check(&[(delivery, "5000")], 5_000);
        check(&[(message, "60000")], 60_000);
        // Whichever of them it was by which the producer went.
        check(&[(message, "2000")], 10_000);
        check(&[(delivery, "5000"), (message, "60000")], 60_000);
        check(&[(delivery, "0")], 300_000);
        check(&[(delivery, "5s")], 10_000);
    }

    #[test]
    fn literals() {
        assert_eq!(literal(r"it's \"), r"'it\'s \\'");
    }
}
