//! Against `tests/services/randomuser.py`, a stand-in for the service that misbehaves when told; skipped without python3.

use super::{RandomUser, made_up_seed};
use crate::connectors::{Connector, Options};
use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::Int32Type;
use datafusion::prelude::{SessionConfig, SessionContext};
use headwater_proto::error::{Error, ErrorKind};
use serde_json::{Value, json};
use std::collections::HashSet;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// The stand-in; it ends with the test, however that ends.
struct Replay {
    address: String,
    process: Child,
}

impl Drop for Replay {
    fn drop(&mut self) {
        // Its stdin ends with this process anyway.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Replay {
    fn new(test: &str, arguments: &[&str]) -> Option<Self> {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/services/randomuser.py");
        let process = Command::new("python3")
            .arg(script)
            .arg("--owner-stdin")
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn();
        let Ok(mut process) = process else {
            let required = std::env::var("HEADWATER_REQUIRE_SERVICES").is_ok_and(|value| value == "1");
            assert!(!required, "HEADWATER_REQUIRE_SERVICES=1, and there is no python3");
            println!("skipped: randomuser {test}: there is no python3");
            return None;
        };
        let mut line = String::new();
        let _ = BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
        Some(Self { address: line.trim().to_string(), process })
    }

    async fn call(&self, method: reqwest::Method, path: &str, body: Option<Value>) -> Value {
        crate::tls::install_provider();
        let mut request = reqwest::Client::new().request(method, format!("http://{}{path}", self.address));
        if let Some(body) = body {
            request = request.json(&body);
        }
        request.send().await.unwrap().error_for_status().unwrap().json().await.unwrap()
    }

    async fn misbehave(&self, faults: Value) {
        let _ = self.call(reqwest::Method::DELETE, "/_faults", None).await;
        let _ = self.call(reqwest::Method::DELETE, "/_stats", None).await;
        let _ = self.call(reqwest::Method::POST, "/_faults", Some(faults)).await;
    }

    async fn stats(&self) -> Value {
        self.call(reqwest::Method::GET, "/_stats", None).await
    }

    async fn sql(&self, pairs: &[(&str, &str)], sql: &str) -> Result<Vec<RecordBatch>, Error> {
        let mut options =
            Options::new([("url", format!("http://{}/api/1.4/", self.address)), ("seed", "headwater".into())]);
        pairs.iter().for_each(|(key, value)| options.set(*key, *value));
        let context = SessionContext::new_with_config(SessionConfig::new().with_target_partitions(4));
        context.register_table("t", RandomUser.table(&options, None).await?).unwrap();
        let found = context.sql(sql).await.unwrap().collect().await;
        found.map_err(|error| Error::in_text(&format!("{error:?}")).unwrap_or_else(|| Error::internal(error)))
    }
}

fn texts(batches: &[RecordBatch], column: &str) -> Vec<Option<String>> {
    let of = |batch: &RecordBatch| -> Vec<Option<String>> {
        batch.column_by_name(column).unwrap().as_string::<i32>().iter().map(|text| text.map(String::from)).collect()
    };
    batches.iter().flat_map(of).collect()
}

fn rows(batches: &[RecordBatch]) -> usize {
    batches.iter().map(RecordBatch::num_rows).sum()
}

const SECRETS: [&str; 5] = ["password", "salt", "md5", "sha1", "sha256"];

#[test]
fn seeds_differ() {
    // One of 18 would also fix the nationality.
    assert_eq!(made_up_seed().len(), 16);
    assert_ne!(made_up_seed(), made_up_seed());
}

#[tokio::test]
async fn the_recorded_users_are_read() {
    let Some(replay) = Replay::new("recorded", &[]) else { return };
    let pairs = [("users", "2500"), ("pageSize", "1000"), ("keepRaw", "true")];
    let found = replay.sql(&pairs, "SELECT * FROM t ORDER BY page, position").await.unwrap();
    assert_eq!(rows(&found), 2_500);
    let ids: HashSet<_> = texts(&found, "id").into_iter().flatten().collect();
    assert_eq!(ids.len(), 2_500);
    assert!(ids.contains("9749f3dc-5dda-47cc-bddb-5e14a58d354f"));
    assert!(texts(&found, "rejected").iter().all(Option::is_none));
    assert_eq!(texts(&found, "address")[0].as_deref(), Some("9911 Calle Covadonga, Sevilla, La Rioja, Spain"));
    for raw in texts(&found, "raw").into_iter().flatten() {
        let raw: Value = serde_json::from_str(&raw).unwrap();
        let login = raw["login"].as_object().unwrap();
        assert!(SECRETS.iter().all(|secret| !login.contains_key(*secret)) && login.contains_key("uuid"));
    }
    let stats = replay.stats().await;
    assert_eq!(stats["pages"], json!({"headwater/1/1000": 1, "headwater/2/1000": 1, "headwater/3/500": 1}));
    // The same again, by other partitions; only the pages that are missing; only as many as are wanted.
    let pairs = [("users", "2500"), ("pagesPerPartition", "1"), ("pages", "3")];
    let again = replay.sql(&pairs, "SELECT * FROM t ORDER BY page, position").await.unwrap();
    assert_eq!(texts(&again, "id"), texts(&found, "id")[2_000..]);
    assert!(texts(&again, "raw").iter().all(Option::is_none));
    let page = again[0].column_by_name("page").unwrap().as_primitive::<Int32Type>().value(0);
    assert_eq!(page, 3);
    replay.misbehave(json!([])).await;
    assert_eq!(rows(&replay.sql(&[("users", "4000")], "SELECT id FROM t LIMIT 10").await.unwrap()), 10);
    assert_eq!(replay.stats().await["users"], 1_000);
    // Counted without a column.
    let counted = replay.sql(&[("users", "1500")], "SELECT count(*) AS n FROM t").await.unwrap();
    assert_eq!(counted[0].column(0).as_primitive::<arrow::datatypes::Int64Type>().value(0), 1_500);
}

#[tokio::test]
async fn a_seed_is_made_up_and_said() {
    let Some(replay) = Replay::new("seed", &[]) else { return };
    let found = replay.sql(&[("users", "3"), ("seed", ""), ("nat", "de,fr")], "SELECT * FROM t").await.unwrap();
    let seeds: HashSet<_> = texts(&found, "seed").into_iter().flatten().collect();
    assert_eq!(seeds.len(), 1);
    assert!(seeds.iter().all(|seed| seed.len() == 16), "{seeds:?}");
    assert!(texts(&found, "nat").into_iter().flatten().all(|nat| nat == "DE" || nat == "FR"));
}

#[tokio::test]
async fn what_goes_wrong_for_a_while_is_waited_out() {
    let Some(replay) = Replay::new("faults", &[]) else { return };
    let pairs = [("users", "40"), ("pageSize", "10"), ("timeout", "2s")];
    for kind in ["500", "error", "cut", "drip", "reset", "html", "one", "first_page"] {
        replay.misbehave(json!([{"kind": kind, "times": 2, "pages": [2, 3]}])).await;
        let found = replay.sql(&pairs, "SELECT * FROM t").await.unwrap_or_else(|error| panic!("{kind}: {error}"));
        let ids: HashSet<_> = texts(&found, "id").into_iter().flatten().collect();
        assert_eq!((rows(&found), ids.len()), (40, 40), "{kind}");
        let stats = replay.stats().await;
        assert_eq!((&stats["faults"][kind], &stats["requests"]), (&json!(2), &json!(6)), "{kind}");
    }
    // What the service asks for is waited for.
    replay.misbehave(json!([{"kind": "429", "times": 1, "pages": [1], "retry_after": 2}])).await;
    let began = Instant::now();
    assert_eq!(rows(&replay.sql(&pairs, "SELECT * FROM t").await.unwrap()), 40);
    assert!(began.elapsed() >= Duration::from_secs(2), "{:?}", began.elapsed());
}

#[tokio::test]
async fn what_stays_wrong_fails_by_name() {
    let Some(replay) = Replay::new("failures", &[]) else { return };
    let check = async |kind: &str, retries: &str, expect: ErrorKind, class: &str, words: &str| {
        replay.misbehave(json!([{"kind": kind, "pages": [2], "retry_after": 77}])).await;
        // Short only where it is to be reached: the other pages, and the other faults, are answers.
        let timeout = if matches!(kind, "drip" | "hang") { "1s" } else { "20s" };
        let pairs = [
            ("users", "30"),
            ("pageSize", "10"),
            ("timeout", timeout),
            ("retries", retries),
            ("retryAfterMax", "5s"),
            ("pagesPerPartition", "3"),
        ];
        let error = replay.sql(&pairs, "SELECT * FROM t").await.unwrap_err();
        assert_eq!((error.kind, error.class.as_str()), (expect, class), "{error}");
        assert!(error.message.contains("page 2") && error.message.contains(words), "{error}");
        let times = replay.stats().await["faults"][kind].as_u64().unwrap();
        // A pause that is too long is left to the caller.
        assert_eq!(times, if kind == "429" { 1 } else { retries.parse::<u64>().unwrap() + 1 }, "{kind}");
    };
    let transient = ErrorKind::Transient;
    check("500", "2", transient, "RANDOMUSER_FAILED", "status 500").await;
    check("error", "1", transient, "RANDOMUSER_FAILED", "something has gone wrong").await;
    check("html", "1", transient, "RANDOMUSER_FAILED", "no JSON").await;
    check("cut", "1", transient, "RANDOMUSER_UNREACHABLE", "ended early").await;
    check("drip", "1", transient, "RANDOMUSER_UNREACHABLE", "in time").await;
    check("hang", "1", transient, "RANDOMUSER_UNREACHABLE", "in time").await;
    check("reset", "1", transient, "RANDOMUSER_UNREACHABLE", "request").await;
    check("one", "1", transient, "RANDOMUSER_WRONG_COUNT", "1 users in place of 10").await;
    check("first_page", "1", transient, "RANDOMUSER_WRONG_COUNT", "page 1 in place of 2").await;
    check("429", "3", transient, "RANDOMUSER_TOO_MANY_REQUESTS", "retry after 77 s").await;
    // Wrong from the start.
    let nowhere = format!("http://{}/elsewhere", replay.address);
    let error = replay.sql(&[("users", "1"), ("url", &nowhere)], "SELECT * FROM t").await.unwrap_err();
    assert_eq!((error.kind, error.class.as_str()), (ErrorKind::InvalidRequest, "RANDOMUSER_REFUSED"), "{error}");
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let url = format!("http://me:canary@127.0.0.1:{port}/api/");
    let error = replay.sql(&[("users", "1"), ("url", &url), ("retries", "0")], "SELECT * FROM t").await.unwrap_err();
    assert_eq!((error.kind, error.class.as_str()), (transient, "RANDOMUSER_UNREACHABLE"), "{error}");
    assert!(!error.message.contains("canary") && error.message.contains(&port.to_string()), "{error}");
}

#[tokio::test]
async fn users_that_cannot_be_used_are_rows_with_a_reason() {
    let Some(replay) = Replay::new("rejected", &[]) else { return };
    replay
        .misbehave(json!([
            {"kind": "wrong_types", "pages": [1], "positions": [0, 3]},
            {"kind": "missing_id", "pages": [2], "positions": [9]},
            {"kind": "duplicate", "pages": [3], "positions": [5]},
            {"kind": "zero_character", "pages": [4], "positions": [2]},
        ]))
        .await;
    let pairs = [("users", "40"), ("pageSize", "10"), ("keepRaw", "true")];
    let found = replay.sql(&pairs, "SELECT * FROM t ORDER BY page, position").await.unwrap();
    let rejected: Vec<(usize, String)> =
        texts(&found, "rejected").into_iter().enumerate().filter_map(|(at, why)| Some((at, why?))).collect();
    let expect = [
        (0, "wrong type: name.first"),
        (3, "wrong type: name.first"),
        (19, "missing id"),
        (25, "duplicate id in page"),
        (32, "zero character: name.first"),
    ];
    assert_eq!(rejected, expect.map(|(at, why)| (at, why.to_string())));
    let ids = texts(&found, "id");
    assert_eq!((ids[19].as_deref(), &ids[25]), (None, &ids[24]));
    assert!(texts(&found, "raw")[32].as_deref().is_some_and(|raw| !raw.contains('\0')));
    assert_eq!(rows(&found), 40);
}

#[tokio::test]
async fn the_budget_is_kept() {
    // The service itself counts: 200 users in 2 seconds.
    let Some(replay) = Replay::new("budget", &["--users-per-window", "200", "--window", "2"]) else { return };
    // Wider, for a request may be longer under way than one of the window after.
    let pairs = [("users", "600"), ("pageSize", "50"), ("usersPerWindow", "200"), ("window", "3500ms")];
    let began = Instant::now();
    assert_eq!(rows(&replay.sql(&pairs, "SELECT id FROM t").await.unwrap()), 600);
    // Three windows' worth: the third begins after two.
    assert!(began.elapsed() >= Duration::from_secs(7), "{:?}", began.elapsed());
    let stats = replay.stats().await;
    assert_eq!((&stats["requests"], &stats["users"]), (&json!(12), &json!(600)), "no request was refused");
}

#[tokio::test]
async fn columns_of_ones_own_are_refused() {
    let schema = std::sync::Arc::new(crate::functions::ddl::parse_ddl("id STRING").unwrap());
    let error = RandomUser.table(&Options::new([("users", "1")]), Some(schema)).await.unwrap_err();
    assert!(error.message.contains("columns of its own"), "{error}");
    assert!(RandomUser.reader("{}").is_err());
}

/// With `HEADWATER_MEASURE=1`: users a second from the stand-in, which has made them up before.
#[tokio::test(flavor = "multi_thread")]
async fn measure_reads() {
    if std::env::var("HEADWATER_MEASURE").is_err() {
        println!("skipped: randomuser measure: HEADWATER_MEASURE is not set");
        return;
    }
    let Some(replay) = Replay::new("measure", &[]) else { return };
    for what in ["made up as asked for", "from the stand-in's memory"] {
        let began = Instant::now();
        let pairs = [("users", "40000"), ("seed", "m"), ("usersPerWindow", "0")];
        assert_eq!(rows(&replay.sql(&pairs, "SELECT * FROM t").await.unwrap()), 40_000);
        println!("users {what}: {:.0}/s", 40_000.0 / began.elapsed().as_secs_f64());
    }
}
