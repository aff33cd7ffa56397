//! The binary as users run it, against a scheduler that answers as the test says: exit codes, stdout, stderr.

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use arrow::ipc::writer::StreamWriter;
use headwater_proto::engine::query_service_server::{QueryService, QueryServiceServer};
use headwater_proto::engine::sql_response::Kind;
use headwater_proto::engine::sql_service_server::{SqlService, SqlServiceServer};
use headwater_proto::engine::*;
use std::pin::Pin;
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::Command;
use tokio_stream::{Stream, StreamExt};
use tonic::{Request, Response, Status};

/// Answers by the query's name or the statement's text, and keeps what it was asked.
#[derive(Clone, Default)]
struct Scheduler {
    asked: Arc<Mutex<Vec<String>>>,
}

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

fn query(name: &str) -> QueryStatus {
    let state = match name {
        "good" => "FINISHED",
        "bad" => "FAILED",
        _ => "RUNNING",
    };
    QueryStatus {
        id: format!("00000000-0000-0000-0000-{name:0>12}"),
        run_id: "r".into(),
        name: name.into(),
        state: state.into(),
        batch_id: 7,
        input_rows_per_second: 1.5,
        processed_rows_per_second: 2.5,
        lag_records: 3,
        message: if name == "bad" { "[KAFKA_DATA_LOSS] offsets 5..9 are gone".into() } else { String::new() },
        checkpoint: "file:///c".into(),
        trigger: "default".into(),
        trouble: None,
        bad_rows: if name == "good" { 4 } else { 0 },
        bad_records: if name == "good" { "skip".into() } else { String::new() },
    }
}

/// A report of 100 rows, of which two were bad when the query had any.
fn report(name: &str, batch: i64) -> ProgressReport {
    let status = query(name);
    let metrics = match status.bad_rows {
        0 => serde_json::json!({}),
        _ => serde_json::json!({"badRows": "2", "badRecords": status.bad_records}),
    };
    let json = serde_json::json!({
        "id": status.id, "runId": "r", "name": name, "timestamp": format!("2024-01-01T00:00:0{batch}.000Z"),
        "batchId": batch, "batchDuration": 5, "numInputRows": 100, "inputRowsPerSecond": 1.0,
        "processedRowsPerSecond": 20000.0, "durationMs": {}, "eventTime": {}, "stateOperators": [], "sources": [],
        "sink": {"description": "noop", "numOutputRows": -1, "metrics": metrics}, "observedMetrics": {}
    });
    ProgressReport { json: json.to_string(), status: Some(status) }
}

fn rows(statement: u32) -> SqlResponse {
    let columns: [(&str, ArrayRef); 2] =
        [("n", Arc::new(Int64Array::from(vec![1, 2]))), ("t", Arc::new(StringArray::from(vec!["a", "ü"])))];
    let batch = RecordBatch::try_from_iter(columns).expect("columns fit");
    let mut writer = StreamWriter::try_new(Vec::new(), &batch.schema()).expect("a schema");
    writer.write(&batch).expect("memory takes it");
    SqlResponse { kind: Some(Kind::ArrowIpc(writer.into_inner().expect("memory takes it"))), statement }
}

impl Scheduler {
    fn asked(&self, what: String) {
        self.asked.lock().expect("no test panics with it").push(what);
    }
    fn find(&self, what: &str, reference: &str) -> Result<Response<QueryStatus>, Status> {
        self.asked(format!("{what} {reference}"));
        match reference.trim_start_matches(['0', '-']) {
            name @ ("good" | "bad" | "endless") => Ok(Response::new(query(name))),
            _ => Err(Status::not_found(format!("[QUERY_NOT_FOUND] there is no query {reference}"))),
        }
    }
}

#[tonic::async_trait]
impl QueryService for Scheduler {
    async fn submit(&self, request: Request<SubmitRequest>) -> Result<Response<SubmitResponse>, Status> {
        let request = request.into_inner();
        self.asked(format!("submit {} {}", request.trigger, request.sql));
        if request.sql.contains("syntax") {
            return Err(Status::invalid_argument("[PARSE_SYNTAX_ERROR] line 1: no"));
        }
        let names = ["good", "bad", "endless"].into_iter().filter(|name| request.sql.contains(name));
        Ok(Response::new(SubmitResponse {
            queries: names.map(query).collect(),
            messages: vec!["created table t".into()],
        }))
    }
    async fn list(&self, _: Request<ListRequest>) -> Result<Response<ListResponse>, Status> {
        Ok(Response::new(ListResponse { queries: vec![query("good"), query("endless")] }))
    }
    async fn get(&self, request: Request<QueryRef>) -> Result<Response<QueryStatus>, Status> {
        self.find("get", &request.into_inner().r#ref)
    }
    type ProgressStream = Answers<ProgressReport>;
    async fn progress(&self, request: Request<ProgressRequest>) -> Result<Response<Self::ProgressStream>, Status> {
        let request = request.into_inner();
        let name = self.find("progress", &request.r#ref)?.into_inner().name;
        let reports = tokio_stream::iter([Ok(report(&name, 0)), Ok(report(&name, 1))]);
        Ok(Response::new(if name == "endless" && request.follow {
            Box::pin(reports.chain(tokio_stream::pending()))
        } else {
            Box::pin(reports)
        }))
    }
    async fn stop(&self, request: Request<QueryRef>) -> Result<Response<QueryStatus>, Status> {
        self.find("stop", &request.into_inner().r#ref)
    }
    async fn restart(&self, request: Request<QueryRef>) -> Result<Response<QueryStatus>, Status> {
        self.find("restart", &request.into_inner().r#ref)
    }
    async fn delete(&self, request: Request<QueryRef>) -> Result<Response<QueryStatus>, Status> {
        self.find("delete", &request.into_inner().r#ref)
    }
    async fn endpoints(&self, _: Request<EndpointsRequest>) -> Result<Response<EndpointsResponse>, Status> {
        Ok(Response::new(EndpointsResponse { connect_port: 15002, http_port: 4040, ..Default::default() }))
    }
}

#[tonic::async_trait]
impl SqlService for Scheduler {
    type ExecuteStream = Answers<SqlResponse>;
    async fn execute(&self, request: Request<SqlRequest>) -> Result<Response<Self::ExecuteStream>, Status> {
        let sql = request.into_inner().sql;
        self.asked(format!("sql {sql}"));
        if sql.contains("nonsense") {
            return Err(Status::invalid_argument("[PARSE_SYNTAX_ERROR] line 1: no"));
        }
        if sql.contains("half") {
            let error = Err(Status::internal("[CASSANDRA_UNAVAILABLE] host a is away"));
            return Ok(Response::new(Box::pin(tokio_stream::iter([Ok(rows(0)), error]))));
        }
        if sql.contains("endless") {
            return Ok(Response::new(Box::pin(tokio_stream::iter([Ok(rows(0))]).chain(tokio_stream::pending()))));
        }
        let progress = Kind::Progress(JobProgress { tasks_done: 1, tasks: 2 });
        let progress = SqlResponse { kind: Some(progress), statement: 0 };
        let message = SqlResponse { kind: Some(Kind::Message("done".into())), statement: 1 };
        Ok(Response::new(Box::pin(tokio_stream::iter([Ok(progress), Ok(rows(0)), Ok(message)]))))
    }
    async fn completions(&self, _: Request<CompletionsRequest>) -> Result<Response<CompletionsResponse>, Status> {
        Ok(Response::new(CompletionsResponse::default()))
    }
}

/// A scheduler on a port of its own, as long as this lives.
struct Served {
    address: String,
    scheduler: Scheduler,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Served {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Served {
    async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("a bound port").to_string();
        let scheduler = Scheduler::default();
        let server = tonic::transport::Server::builder()
            .add_service(QueryServiceServer::new(scheduler.clone()))
            .add_service(SqlServiceServer::new(scheduler.clone()));
        let incoming = tokio_stream::wrappers::TcpListenerStream::new(listener);
        let task = tokio::spawn(async move { server.serve_with_incoming(incoming).await.expect("it serves") });
        Self { address, scheduler, task }
    }
    fn asked(&self, what: &str) -> bool {
        self.scheduler.asked.lock().expect("no test panics with it").iter().any(|asked| asked.contains(what))
    }
    fn command(&self, args: &[&str]) -> Command {
        let mut command = headwater(args);
        command.env("HEADWATER_SCHEDULER", &self.address);
        command
    }
    async fn run(&self, args: &[&str]) -> Ran {
        ran(self.command(args)).await
    }
}

fn headwater(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_headwater"));
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("HEADWATER_")) {
        command.env_remove(name);
    }
    command.args(args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    command
}

#[derive(Debug)]
struct Ran {
    code: Option<i32>,
    out: String,
    err: String,
}

async fn ran(mut command: Command) -> Ran {
    let output = command.output().await.expect("the binary runs");
    Ran {
        code: output.status.code(),
        out: String::from_utf8(output.stdout).expect("UTF-8"),
        err: String::from_utf8(output.stderr).expect("UTF-8"),
    }
}

impl Ran {
    #[track_caller]
    fn check(&self, code: i32, out: &str, err: &str) {
        assert_eq!(self.code, Some(code), "{self:?}");
        assert!(self.out.contains(out), "{self:?}");
        assert!(self.err.contains(err), "{self:?}");
    }
}

fn file(name: &str, text: &str) -> (tempfile::TempDir, String) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join(name);
    std::fs::write(&path, text).expect("the folder takes it");
    (folder, path.to_string_lossy().into_owned())
}

#[tokio::test]
async fn wrong_usage() {
    ran(headwater(&[])).await.check(2, "", "Usage: headwater");
    ran(headwater(&["nonsense"])).await.check(2, "", "nonsense");
    ran(headwater(&["ingest", "start"])).await.check(2, "", "ingest");
    ran(headwater(&["submit", "/nowhere/a.sql"])).await.check(2, "", "/nowhere/a.sql");
    ran(headwater(&["submit", "/nowhere/a.py"])).await.check(2, "", "/nowhere/a.py");
    ran(headwater(&["sql", "-- nothing"])).await.check(2, "", "");
    ran(headwater(&["sql", "/* nothing */"])).await.check(2, "", "[EMPTY_STATEMENT]");
    ran(headwater(&["query", "list", "--scheduler", "here"])).await.check(2, "", "HOST:PORT");
    ran(headwater(&["query", "list", "--log", "a=b=c"])).await.check(2, "", "[INVALID_LOG_LEVEL]");
    let (_folder, path) = file("a.sql", "CREATE FLOW a\n  AS ${kafka}");
    let ran = ran(headwater(&["submit", &path])).await;
    ran.check(2, "", "${kafka} on line 2 is not set: give --set kafka=VALUE");
}

#[tokio::test]
async fn help() {
    let ran = ran(headwater(&["--help"])).await;
    ran.check(0, "Exit codes: 0 done", "");
    assert!(ran.out.contains("ingest"), "{}", ran.out);
}

#[tokio::test]
async fn no_scheduler() {
    let (_folder, path) = file("a.sql", "SELECT 1");
    for args in [vec!["query", "list"], vec!["sql", "SELECT 1"], vec!["submit", &path]] {
        let args = [args, vec!["--scheduler", "127.0.0.1:1"]].concat();
        ran(headwater(&args)).await.check(3, "", "start one with: headwater standalone");
    }
}

#[tokio::test]
async fn submit_follows_to_the_end() {
    let served = Served::start().await;
    let (_folder, path) = file("a.sql", "CREATE FLOW good AS '${kafka}'");
    let ran = served.run(&["submit", &path, "--set", "kafka=k:1", "--trigger", "available-now"]).await;
    ran.check(0, "00000000-0000-0000-0000-00000000good\tgood\n", "created table t");
    assert!(
        ran.err.contains("good: batch 0 · 100 rows, 2 bad (skipped) · 20,000 rows/s · 5 ms · lag 3 · 100 in all"),
        "{ran:?}"
    );
    assert!(ran.err.contains("good: FINISHED after 200 rows, 4 bad (skipped)\n"), "{ran:?}");
    assert!(served.asked("submit available-now CREATE FLOW good AS 'k:1'"));
}

#[tokio::test]
async fn submit_prints_json_lines() {
    let served = Served::start().await;
    let (_folder, path) = file("a.sql", "good");
    let ran = served.run(&["submit", &path, "--json"]).await;
    let lines: Vec<serde_json::Value> =
        ran.out.lines().map(|line| serde_json::from_str(line).expect("each line is JSON")).collect();
    assert_eq!(lines[0]["name"], "good");
    assert_eq!((&lines[1]["batchId"], &lines[2]["batchId"]), (&0.into(), &1.into()));
    assert_eq!(lines[3]["state"], "FINISHED");
}

#[tokio::test]
async fn submit_tells_of_failures() {
    let served = Served::start().await;
    let (_folder, path) = file("a.sql", "good bad");
    let ran = served.run(&["submit", &path]).await;
    ran.check(1, "good", "error: query bad failed: [KAFKA_DATA_LOSS] offsets 5..9 are gone\n");
    assert_eq!(ran.err.matches("KAFKA_DATA_LOSS").count(), 1, "{ran:?}");
    let (_folder, path) = file("a.sql", "syntax");
    served.run(&["submit", &path]).await.check(1, "", "[PARSE_SYNTAX_ERROR]");
}

#[tokio::test]
async fn detached() {
    let served = Served::start().await;
    let (_folder, path) = file("a.sql", "endless");
    served.run(&["submit", &path, "--detach"]).await.check(0, "\tendless\n", "");
}

/// Runs until stderr has `until`, then interrupts as ctrl-C does.
#[cfg(unix)]
async fn interrupt(mut command: Command, until: &str) -> Ran {
    let mut child = command.spawn().expect("the binary runs");
    let mut err = BufReader::new(child.stderr.take().expect("it is piped")).lines();
    let mut text = String::new();
    while !text.contains(until) {
        text.push_str(&err.next_line().await.expect("stderr is read").expect("the line comes"));
        text.push('\n');
    }
    press(&child).await;
    while let Some(line) = err.next_line().await.expect("stderr is read") {
        text.push_str(&line);
        text.push('\n');
    }
    let output = child.wait_with_output().await.expect("it ends");
    Ran { code: output.status.code(), out: String::from_utf8(output.stdout).expect("UTF-8"), err: text }
}

#[cfg(unix)]
async fn press(child: &tokio::process::Child) {
    let id = child.id().expect("it runs").to_string();
    assert!(Command::new("kill").args(["-INT", &id]).status().await.expect("kill runs").success());
}

#[cfg(unix)]
#[tokio::test]
async fn interrupt_stops_following_never_the_query() {
    let served = Served::start().await;
    let (_folder, path) = file("a.sql", "endless");
    let ran = interrupt(served.command(&["submit", &path]), "batch 1").await;
    ran.check(130, "endless", "stopped following endless, which goes on; stop it with: headwater query stop endless");
    assert!(!served.asked("stop 0"));
    let ran = interrupt(served.command(&["submit", &path, "--stop-on-exit"]), "batch 1").await;
    ran.check(130, "endless", "endless: ");
    assert!(served.asked("stop 0"));
}

/// Scripts here do without PySpark, which `tests/e2e/test_pyspark.py` has.
async fn python_is_there() -> bool {
    let there = Command::new("python3").arg("--version").output().await.is_ok_and(|output| output.status.success());
    if !there {
        assert!(std::env::var_os("HEADWATER_REQUIRE_SERVICES").is_none(), "python3 is not installed");
        println!("skipped: python3 is not installed");
    }
    there
}

#[tokio::test]
async fn a_script_s_queries_and_exit_code_are_passed_on() {
    if !python_is_there().await {
        return;
    }
    let served = Served::start().await;
    let text = "import json, os, sys
place = os.environ['PYTHONPATH'].split(os.pathsep)[0]
settings = json.load(open(os.path.join(place, 'settings.json')))
print(os.environ['SPARK_REMOTE'], sys.argv[1:], settings['conf'], settings['ui'], os.stat(place).st_mode & 0o777)
with open(os.path.join(place, 'queries.jsonl'), 'w') as file:
    for name in ['endless', 'gone']:
        file.write(json.dumps({'id': f'00000000-0000-0000-0000-{name:0>12}', 'name': None}) + '\\n')
sys.exit(7)
";
    let (_folder, path) = file("app.py", text);
    let args = ["submit", &path, "--conf", "a=b", "--", "--x", "y z"];
    let ran = served.run(&args).await;
    let (host, _) = served.address.rsplit_once(':').expect("host and port");
    let expect = format!(
        "sc://{host}:15002 ['--x', 'y z'] {{'a': 'b', 'spark.app.name': 'app.py'}} http://{host}:4040 448\n\
         00000000-0000-0000-0000-00000endless\tendless\n"
    );
    ran.check(7, &expect, "endless goes on: follow it with: headwater query progress endless --follow");
    assert!(!served.asked("stop"), "{ran:?}");
    served.run(&["submit", &path, "--stop-on-exit"]).await.check(7, "\tendless\n", "");
    assert!(served.asked("stop 0"));
    // PySpark would try for minutes.
    let nobody = ["submit", &path, "--connect", "sc://127.0.0.1:1/;token=secret"];
    let ran = served.run(&nobody).await;
    ran.check(3, "", "nobody serves Spark Connect at 127.0.0.1:1 (");
    assert!(!ran.err.contains("secret"), "{ran:?}");
}

#[tokio::test]
async fn a_sitecustomize_of_the_environment_is_imported_too() {
    if !python_is_there().await {
        return;
    }
    let served = Served::start().await;
    let (folder, path) = file("app.py", "import sitecustomize\nprint('found', sitecustomize.MARK)\nimport pyspark\n");
    let other = folder.path().join("site");
    std::fs::create_dir(&other).expect("a folder");
    std::fs::write(other.join("sitecustomize.py"), "MARK = 'theirs'\n").expect("written");
    let mut command = served.command(&["submit", &path, "--py-files", &path]);
    command.env("PYTHONPATH", &other);
    let ran = ran(command).await;
    // A python3 that has PySpark is one that lacks nothing.
    if ran.code == Some(0) {
        return ran.check(0, "found theirs", "");
    }
    ran.check(1, "found theirs", "pip install 'pyspark[connect]'");
}

#[cfg(unix)]
#[tokio::test]
async fn interrupts_go_to_the_script() {
    if !python_is_there().await {
        return;
    }
    let served = Served::start().await;
    let text = "import sys, time
try:
    print('batch 1', file=sys.stderr, flush=True)
    time.sleep(60)
except KeyboardInterrupt:
    sys.exit(9)
";
    let (_folder, path) = file("app.py", text);
    interrupt(served.command(&["submit", &path]), "batch 1").await.check(9, "", "");
}

#[tokio::test]
async fn a_python_that_is_not_there() {
    let served = Served::start().await;
    let (_folder, path) = file("app.py", "");
    let ran = served.run(&["submit", &path, "--python", "/nowhere/python"]).await;
    ran.check(2, "", "[PYTHON_NOT_FOUND] there is no Python /nowhere/python");
}

#[tokio::test]
async fn sql_in_every_format() {
    let served = Served::start().await;
    let table = "+-+-+\n|n|t|\n+-+-+\n|1|a|\n|2|ü|\n+-+-+\n";
    let ran = served.run(&["sql", "SELECT '${x}'", "--set", "x=y"]).await;
    assert_eq!((ran.code, ran.out.as_str(), ran.err.as_str()), (Some(0), table, "done\n"));
    assert!(served.asked("sql SELECT 'y'"));
    let ran = served.run(&["sql", "SELECT 1", "--format", "json"]).await;
    assert_eq!(ran.out, "[{\"n\":1,\"t\":\"a\"},{\"n\":2,\"t\":\"ü\"}]\n");
    let ran = served.run(&["sql", "SELECT 1", "--format", "csv"]).await;
    assert_eq!(ran.out, "n,t\n1,a\n2,ü\n");
}

#[tokio::test]
async fn sql_that_fails() {
    let served = Served::start().await;
    served.run(&["sql", "nonsense"]).await.check(1, "", "[PARSE_SYNTAX_ERROR] line 1: no");
    // What came before the failure is shown.
    served.run(&["sql", "half"]).await.check(1, "n|t", "[CASSANDRA_UNAVAILABLE] host a is away");
}

#[tokio::test]
async fn sql_from_stdin_runs_each_statement_as_it_comes() {
    let served = Served::start().await;
    let mut command = served.command(&["sql", "--format", "csv"]);
    let mut child = command.stdin(Stdio::piped()).spawn().expect("the binary runs");
    let mut stdin = child.stdin.take().expect("it is piped");
    let mut out = BufReader::new(child.stdout.take().expect("it is piped")).lines();
    stdin.write_all(b"SELECT\n  'first;' ;\n").await.expect("the pipe is open");
    // The first result comes while stdin is still open.
    for expect in ["n,t", "1,a", "2,ü"] {
        assert_eq!(out.next_line().await.expect("stdout is read").as_deref(), Some(expect));
    }
    stdin.write_all(b"SELECT 'last'").await.expect("the pipe is open");
    drop(stdin);
    assert_eq!(child.wait().await.expect("it ends").code(), Some(0));
    assert!(served.asked("sql SELECT\n  'first;'") && served.asked("sql SELECT 'last'"));
}

#[cfg(unix)]
#[tokio::test]
async fn sql_interrupted() {
    let served = Served::start().await;
    let mut child = served.command(&["sql", "endless", "--format", "csv"]).spawn().expect("the binary runs");
    let mut out = BufReader::new(child.stdout.take().expect("it is piped")).lines();
    assert_eq!(out.next_line().await.expect("stdout is read").as_deref(), Some("n,t"));
    press(&child).await;
    assert_eq!(child.wait().await.expect("it ends").code(), Some(130));
}

#[cfg(unix)]
#[tokio::test]
async fn sql_interrupted_between_statements() {
    let served = Served::start().await;
    let mut command = served.command(&["sql", "--format", "csv"]);
    let mut child = command.stdin(Stdio::piped()).spawn().expect("the binary runs");
    let mut stdin = child.stdin.take().expect("it is piped");
    let mut out = BufReader::new(child.stdout.take().expect("it is piped")).lines();
    stdin.write_all(b"SELECT 1;\n").await.expect("the pipe is open");
    for _ in 0..3 {
        out.next_line().await.expect("stdout is read").expect("the line comes");
    }
    press(&child).await;
    assert_eq!(child.wait().await.expect("it ends").code(), Some(130));
}

#[tokio::test]
async fn queries() {
    let served = Served::start().await;
    let ran = served.run(&["query", "list", "--json"]).await;
    let list: serde_json::Value = serde_json::from_str(&ran.out).expect("JSON");
    let expect = serde_json::json!({
        "id": "00000000-0000-0000-0000-00000000good", "runId": "r", "name": "good", "state": "FINISHED", "batchId": 7,
        "inputRowsPerSecond": 1.5, "processedRowsPerSecond": 2.5, "lag": 3, "badRows": 4,
        "badRecords": "skip", "message": "", "trouble": null
    });
    assert_eq!(list[0], expect);
    served.run(&["query", "list"]).await.check(0, "endless", "");
    let ran = served.run(&["query", "status", "good"]).await;
    ran.check(0, "checkpoint  file:///c", "");
    ran.check(0, "bad         4 rows (skipped) since the scheduler started", "");
    served.run(&["query", "status", "nobody"]).await.check(1, "", "[QUERY_NOT_FOUND] there is no query nobody");
    served.run(&["query", "stop", "good"]).await.check(0, "FINISHED", "");
    served.run(&["query", "restart", "good"]).await.check(0, "FINISHED", "");
    served.run(&["query", "delete", "good"]).await.check(0, "deleted", "");
    let ran = served.run(&["query", "progress", "good", "--json"]).await;
    let reports: serde_json::Value = serde_json::from_str(&ran.out).expect("JSON");
    assert_eq!((&reports[1]["batchId"], reports.as_array().map(Vec::len)), (&1.into(), Some(2)));
    let ran = served.run(&["query", "progress", "good"]).await;
    ran.check(0, "BAD", "");
    ran.check(0, "2 (skipped)", "");
    let ran = served.run(&["query", "progress", "good", "--follow"]).await;
    ran.check(0, "batch 1 · 100 rows, 2 bad (skipped) · ", "FINISHED");
    served.run(&["query", "progress", "bad", "--follow"]).await.check(1, "batch 1", "offsets 5..9 are gone");
}

/// Commands that need the engine's crates: servers refuse wrong settings, topics are those of the broker inside
/// librdkafka.
#[cfg(feature = "standalone")]
mod standalone {
    use super::*;
    use headwater_executor::connectors::kafka::admin::EmbeddedBroker;

    #[tokio::test]
    async fn wrong_settings() {
        let (_folder, path) = file("a.toml", "state-dri = \"x\"");
        ran(headwater(&["scheduler", "--config", &path])).await.check(2, "", "state-dri");
        ran(headwater(&["executor", "--config", "/nowhere/a.toml"])).await.check(2, "", "/nowhere/a.toml");
        ran(headwater(&["executor", "--task-slots", "0"])).await.check(2, "", "task-slots is 0");
        ran(headwater(&["standalone", "--executors", "0"])).await.check(2, "", "executors is 0");
        ran(headwater(&["demo", "--rows", "0"])).await.check(2, "", "--rows");
        ran(headwater(&["bench", "latency", "--sink", "noop"])).await.check(1, "", "--sink kafka");
    }

    #[cfg(unix)]
    #[tokio::test]
    async fn an_executor_waits_for_its_scheduler_until_it_is_told_to_end() {
        let command = headwater(&["executor", "--scheduler", "127.0.0.1:1"]);
        let ran = interrupt(command, "registering with 127.0.0.1:1").await;
        assert!(matches!(ran.code, Some(0 | 130)), "{ran:?}");
    }

    #[tokio::test]
    async fn topics() {
        let broker = EmbeddedBroker::start([("users", 2)]).expect("a free port");
        let address = broker.address();
        let run = |args: &'static [&'static str]| {
            let mut command = headwater(args);
            command.env("HEADWATER_KAFKA", address);
            ran(command)
        };
        run(&["topic", "list"]).await.check(0, "users  2", "");
        let ran = run(&["topic", "list", "--json"]).await;
        assert_eq!(ran.out, "[{\"name\":\"users\",\"partitions\":2}]\n");
        run(&["topic", "describe", "nobody"]).await.check(1, "", "[KAFKA_UNKNOWN_TOPIC]");
        run(&["topic", "produce", "nobody"]).await.check(1, "", "[KAFKA_UNKNOWN_TOPIC]");

        let mut command = headwater(&["topic", "produce", "users", "--key-separator", ":"]);
        command.env("HEADWATER_KAFKA", address).stdin(Stdio::piped());
        let mut child = command.spawn().expect("the binary runs");
        let mut stdin = child.stdin.take().expect("it is piped");
        stdin.write_all("a:1\nb:zwei ü\na:3".as_bytes()).await.expect("the pipe is open");
        drop(stdin);
        let output = child.wait_with_output().await.expect("it ends");
        assert!(output.status.success(), "{output:?}");
        assert!(String::from_utf8_lossy(&output.stderr).contains("3 records to users"), "{output:?}");

        let ran = run(&["topic", "tail", "users", "--from", "beginning"]).await;
        let mut lines: Vec<_> = ran.out.lines().collect();
        lines.sort_unstable();
        assert_eq!((ran.code, lines), (Some(0), vec!["1", "3", "zwei ü"]));
        let ran = run(&["topic", "tail", "users", "--from", "beginning", "--follow", "-n", "3", "--json"]).await;
        let keys: Vec<_> = ran
            .out
            .lines()
            .map(|line| serde_json::from_str::<serde_json::Value>(line).expect("each line is JSON")["key"].clone())
            .collect();
        assert_eq!((ran.code, keys.len()), (Some(0), 3));
        assert!(keys.contains(&"b".into()), "{keys:?}");
        let ran = run(&["topic", "describe", "users", "--json"]).await;
        let topic: serde_json::Value = serde_json::from_str(&ran.out).expect("JSON");
        let latest: i64 = (0..2).map(|partition| topic["partitions"][partition]["latest"].as_i64().unwrap_or(-9)).sum();
        assert_eq!(latest, 3, "{topic}");
    }

    #[tokio::test]
    async fn the_demo_needs_nothing() {
        let ran = ran(headwater(&["demo", "--rows", "700", "--partitions", "3", "--seed", "1", "--json"])).await;
        ran.check(0, "", "flow users is query");
        let outcome: serde_json::Value = serde_json::from_str(&ran.out).expect("JSON");
        assert_eq!((&outcome["rows"], &outcome["count"]), (&700.into(), &700.into()), "{outcome}");
        assert_eq!(outcome["byCountry"].as_array().map(Vec::len), Some(5), "{outcome}");
        assert_eq!(outcome["kept"], serde_json::Value::Null);
    }

    /// A cluster in one process at free ports; its folder goes with it.
    struct Standalone {
        child: tokio::process::Child,
        address: String,
        _folder: tempfile::TempDir,
    }

    impl Standalone {
        async fn start() -> Self {
            let folder = tempfile::tempdir().expect("a temporary folder");
            let mut command = headwater(&["standalone", "--json", "--executors", "2", "--task-slots", "2"]);
            for port in ["GRPC", "CONNECT", "HTTP"] {
                command.env(format!("HEADWATER_{port}_PORT"), "0");
            }
            command.env("HEADWATER_STATE_DIR", folder.path().join("state")).stderr(Stdio::null());
            let mut child = command.spawn().expect("the binary runs");
            let mut out = BufReader::new(child.stdout.take().expect("it is piped")).lines();
            let line = out.next_line().await.expect("stdout is read").expect("it says where it listens");
            let ready: serde_json::Value = serde_json::from_str(&line).expect("JSON");
            assert_eq!(ready["executors"].as_array().map(Vec::len), Some(2), "{ready}");
            let address = ready["grpc"].as_str().expect("an address").to_string();
            Self { child, address, _folder: folder }
        }
        async fn run(&self, args: &[&str]) -> Ran {
            let mut command = headwater(args);
            command.env("HEADWATER_SCHEDULER", &self.address);
            ran(command).await
        }
    }

    #[cfg(unix)]
    #[tokio::test]
    async fn a_cluster_serves_sql_and_queries_and_ends_when_told() {
        let mut cluster = Standalone::start().await;
        cluster.run(&["sql", "SELECT 1 AS one", "--format", "csv"]).await.check(0, "one\n1\n", "");
        cluster.run(&["sql", "SELECT nonsense FROM nowhere"]).await.check(1, "", "nowhere");
        let broker = EmbeddedBroker::start([("numbers", 2)]).expect("a free port");
        let table = format!(
            "CREATE TABLE numbers USING kafka OPTIONS ('kafka.bootstrap.servers' '{}', subscribe 'numbers', \
             startingOffsets 'earliest');\nCREATE TABLE nothing USING noop;\nCREATE FLOW count AS INSERT INTO nothing \
             SELECT value FROM STREAM(numbers);",
            broker.address()
        );
        let (_folder, path) = file("numbers.sql", &table);
        let submitted = cluster.run(&["submit", &path, "--detach"]).await;
        submitted.check(0, "\tcount\n", "");
        let id = submitted.out.split('\t').next().expect("an id");
        cluster.run(&["query", "list"]).await.check(0, id, "");
        cluster.run(&["query", "status", &id[..13]]).await.check(0, "count", "");
        cluster.run(&["query", "delete", "count"]).await.check(1, "", "");
        cluster.run(&["query", "stop", "count", "--json"]).await.check(0, "\"STOPPED\"", "");
        cluster.run(&["query", "delete", "count"]).await.check(0, id, "");
        cluster.run(&["query", "list", "--json"]).await.check(0, "[]", "");
        let pid = cluster.child.id().expect("it runs").to_string();
        assert!(Command::new("kill").arg(&pid).status().await.expect("kill runs").success());
        assert_eq!(cluster.child.wait().await.expect("it ends").code(), Some(0));
        cluster.run(&["query", "list"]).await.check(3, "", "start one with: headwater standalone");
    }

    #[tokio::test]
    async fn no_broker() {
        let ran = ran(headwater(&["topic", "list", "--kafka", "127.0.0.1:1"])).await;
        ran.check(1, "", "127.0.0.1:1");
    }
}

#[tokio::test]
async fn health_is_the_exit_code() {
    let check = async |answer: &'static str, code: i32, out: &str, err: &str| {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address").to_string();
        let server = tokio::spawn(async move {
            let (stream, _) = listener.accept().await.expect("a caller");
            let mut stream = BufReader::new(stream);
            let mut line = String::new();
            stream.read_line(&mut line).await.expect("a request");
            while stream.read_line(&mut String::new()).await.expect("a header") > 2 {}
            stream.write_all(answer.as_bytes()).await.expect("sent");
            line
        });
        ran(headwater(&["health", "--http", &address])).await.check(code, out, err);
        assert_eq!(server.await.expect("asked"), "GET /healthz HTTP/1.0\r\n");
    };
    check("HTTP/1.1 200 OK\r\n\r\nok\n", 0, "ok\n", "").await;
    check("HTTP/1.1 503 Service Unavailable\r\n\r\nnot registered\n", 1, "", "answers 503: not registered").await;
    check("+OK POP3\r\n", 1, "", "does not speak HTTP").await;
    ran(headwater(&["health", "--http", "127.0.0.1:1"])).await.check(1, "", "127.0.0.1:1 is not reached");
}

/// The command lines of README.md and docs/: each must be one that the binary takes.
#[cfg(feature = "standalone")]
mod documentation {
    use clap::Parser;
    use headwater::cli::args::Cli;
    use std::path::Path;

    /// Lines of fenced blocks, those that end with a backslash joined with the next.
    fn fenced(text: &str) -> Vec<String> {
        let mut lines: Vec<String> = vec![];
        let (mut inside, mut goes_on) = (false, false);
        for line in text.lines().map(str::trim) {
            if line.starts_with("```") {
                (inside, goes_on) = (!inside, false);
            } else if inside {
                let part = line.strip_suffix('\\');
                let text = part.unwrap_or(line);
                match lines.last_mut().filter(|_| goes_on) {
                    Some(before) => before.push_str(text),
                    None => lines.push(text.into()),
                }
                goes_on = part.is_some();
            }
        }
        lines
    }

    /// The words of a shell's line up to the end of its first command.
    fn words(line: &str) -> Vec<String> {
        let (mut words, mut word, mut quote) = (vec![], None::<String>, None);
        for c in line.chars() {
            match (quote, c) {
                (Some(open), c) if c == open => quote = None,
                (None, '"' | '\'') => {
                    quote = Some(c);
                    word.get_or_insert_default();
                }
                (None, '|' | '&' | ';' | '<' | '>') => break,
                (None, '#') if word.is_none() => break,
                (None, c) if c.is_whitespace() => words.extend(word.take()),
                (_, c) => word.get_or_insert_default().push(c),
            }
        }
        words.extend(word);
        words
    }

    /// The arguments of `headwater` on a line, perhaps behind variables or `docker … exec SERVICE`.
    fn arguments(line: &str) -> Option<Vec<String>> {
        let words = words(line);
        let at = words.iter().position(|word| word == "headwater")?;
        let is_variable = |word: &String| word.split_once('=').is_some_and(|(name, _)| name.starts_with("HEADWATER_"));
        let in_container = words[0] == "docker" && words[..at].iter().any(|word| word == "exec");
        (in_container || words[..at].iter().all(is_variable)).then(|| words[at..].to_vec())
    }

    #[test]
    fn its_commands_are_taken() {
        let root = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
        let mut files = vec![root.join("README.md")];
        for entry in std::fs::read_dir(root.join("docs")).expect("docs is there") {
            files
                .extend(Some(entry.expect("it is read").path()).filter(|path| path.extension() == Some("md".as_ref())));
        }
        let mut found = 0;
        for file in files {
            let text = std::fs::read_to_string(&file).expect("it is text");
            for (line, arguments) in fenced(&text).iter().filter_map(|line| Some((line, arguments(line)?))) {
                found += 1;
                if let Err(error) = Cli::try_parse_from(arguments) {
                    panic!("{}: {line}\n{error}", file.display());
                }
            }
        }
        assert!(found > 15, "only {found} commands were found");
    }

    #[test]
    fn commands_are_cut_out_of_lines() {
        let check = |line: &str, expect: &[&str]| {
            let expect = (!expect.is_empty()).then(|| expect.iter().map(|word| word.to_string()).collect::<Vec<_>>());
            assert_eq!(arguments(line), expect, "{line}");
        };
        check("headwater sql \"SELECT 'a' AS b\" # why", &["headwater", "sql", "SELECT 'a' AS b"]);
        check("HEADWATER_LOG=warn headwater query list | less", &["headwater", "query", "list"]);
        check("docker compose exec -T scheduler headwater submit - < a.sql", &["headwater", "submit", "-"]);
        check("headwater standalone &", &["headwater", "standalone"]);
        check("cd headwater", &[]);
        check("CREATE TABLE headwater (a INT)", &[]);
        let text = "headwater outside\n```sh\n  headwater query \\\n    list --jsn\n```\nheadwater outside";
        let lines = fenced(text);
        assert_eq!(lines, ["headwater query list --jsn"]);
        assert!(Cli::try_parse_from(words(&lines[0])).is_err(), "there is no such flag");
    }
}
