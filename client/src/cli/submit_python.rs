//! `headwater submit app.py`: runs a script of PySpark in a Python of this machine, as a Spark Connect client of the
//! scheduler.
//!
//! ```text
//! headwater submit ──► python app.py ──► pyspark ──► Spark Connect, at the port that the scheduler names
//!        │                   │ sitecustomize.py, in a folder of ours on PYTHONPATH
//!        └── queries.jsonl ◄─┘ each query that is started
//! ```
//!
//! The script is the user's: its output, its exit code and its signals are passed on. Queries that it starts live in
//! the scheduler, and go on when it ends unless `--stop-on-exit` says otherwise; in the end they are listed.

use super::args::SubmitArgs;
use super::follow::{is_active, status_json};
use super::{Error, output};
use crate::remote::Remote;
use headwater_proto::engine::{EndpointsResponse, QueryStatus};
use serde::Deserialize;
use serde_json::json;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tempfile::TempDir;
use tokio::process::{Child, Command};

/// What Python imports at its start: see there.
const SITECUSTOMIZE: &str = include_str!("python/sitecustomize.py");
/// Where Spark Connect is served unless an address says otherwise.
const CONNECT_PORT: u16 = 15002;
/// A server on the same network accepts within milliseconds.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// What a shell says of a command that a signal ended.
const SIGNAL_CODE: i32 = 128;

/// Whether a file is a script of Python.
pub fn is_python(file: &Path) -> bool {
    file.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("py"))
}

/// Runs the command.
pub async fn run(args: SubmitArgs) -> Result<(), Error> {
    check(&args)?;
    let (remote, endpoints) = super::unless_interrupted(async {
        let remote = Remote::connect(&args.client.scheduler).await?;
        let endpoints = remote.endpoints().await?;
        Ok((remote, endpoints))
    })
    .await?;
    let connection = Connection::of(&remote.address(), &endpoints, args.connect.as_deref())?;
    if args.connect.is_some() {
        super::unless_interrupted(reached(&connection.remote)).await?;
    }
    let folder = prepare(&args, &connection)?;
    let mut child = start(&args, &connection, folder.path())?;
    let status = wait(&mut child).await?;
    let started = recorded(&folder.path().join("queries.jsonl"))?;
    finish(&remote, &started, &args).await?;
    match exit_code(status) {
        0 => Ok(()),
        code => Err(Error::Exit(code)),
    }
}

/// What a script cannot be told.
fn check(args: &SubmitArgs) -> Result<(), Error> {
    let refused = |flag: &str, remedy: &str| {
        Err(Error::Usage(format!(
            "[UNEXPECTED_ARGUMENT] {} is Python, and {flag} is for SQL: {remedy}",
            args.file.display()
        )))
    };
    if args.trigger != "default" {
        return refused("--trigger", "call writeStream.trigger(…) in the script");
    }
    if args.checkpoint.is_some() {
        return refused(
            "--checkpoint",
            "call writeStream.option(\"checkpointLocation\", …) in the script, or give --conf \
             spark.sql.streaming.checkpointLocation=URL",
        );
    }
    if !args.set.is_empty() {
        return refused("--set", "give the script arguments, after --");
    }
    for file in std::iter::once(&args.file).chain(&args.py_files) {
        if let Err(error) = std::fs::metadata(file) {
            return Err(Error::Usage(format!(
                "[UNREADABLE_FILE] failed to read {}: {error}; check the path",
                file.display()
            )));
        }
    }
    Ok(())
}

/// Where the script's session is.
#[derive(Debug, PartialEq)]
struct Connection {
    /// For `SPARK_REMOTE`.
    remote: String,
    /// The scheduler's web pages.
    ui: String,
}

impl Connection {
    /// On the host of the scheduler's address unless the user says otherwise.
    fn of(scheduler: &str, endpoints: &EndpointsResponse, connect: Option<&str>) -> Result<Self, Error> {
        let bare = scheduler.strip_prefix("http://").unwrap_or(scheduler);
        let host = bare.rsplit_once(':').map_or(bare, |(host, _)| host);
        let remote = match connect {
            Some(given) if given.starts_with("sc://") => given.to_string(),
            Some(given) => format!("sc://{given}"),
            None if endpoints.connect_port == 0 => {
                return Err(Error::Failed(format!(
                    "[UNSUPPORTED_FEATURE] the scheduler at {scheduler} does not serve Spark Connect: start one of this \
                     version, or name where it is served with --connect HOST:PORT"
                )));
            }
            None => format!("sc://{host}:{}", endpoints.connect_port),
        };
        Ok(Self { remote, ui: format!("http://{host}:{}", endpoints.http_port) })
    }
}

/// That somebody listens where the user says: PySpark itself tries for minutes, and says nothing.
async fn reached(remote: &str) -> Result<(), Error> {
    let address = remote.strip_prefix("sc://").unwrap_or(remote);
    let address = address.split_once('/').map_or(address, |(address, _)| address);
    let with_port = if address.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok()) {
        address.to_string()
    } else {
        format!("{address}:{CONNECT_PORT}")
    };
    let why = match tokio::time::timeout(CONNECT_TIMEOUT, tokio::net::TcpStream::connect(&with_port)).await {
        Ok(Ok(_)) => return Ok(()),
        Ok(Err(error)) => error.to_string(),
        Err(_) => format!("no answer within {CONNECT_TIMEOUT:?}"),
    };
    Err(Error::NoScheduler(format!(
        "[NO_SCHEDULER] nobody serves Spark Connect at {with_port} ({why}): check --connect, or leave it out to be told by \
         the scheduler"
    )))
}

/// The folder with what Python imports at its start, and what that is told. Others on this machine cannot look into
/// it: settings may be secrets.
fn prepare(args: &SubmitArgs, connection: &Connection) -> Result<TempDir, Error> {
    let mut builder = tempfile::Builder::new();
    builder.prefix("headwater-submit-");
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o700));
    let folder = builder.tempdir()?;
    let mut conf: BTreeMap<&str, &str> = args.conf.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
    let file_name = args.file.file_name().unwrap_or_default().to_string_lossy();
    conf.entry("spark.app.name").or_insert_with(|| args.name.as_deref().unwrap_or(&file_name));
    let started = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64);
    let settings = json!({
        "conf": conf,
        "name": args.name,
        "detach": args.detach,
        "ui": connection.ui,
        "started": started,
    });
    std::fs::write(folder.path().join("settings.json"), settings.to_string())?;
    std::fs::write(folder.path().join("sitecustomize.py"), SITECUSTOMIZE)?;
    Ok(folder)
}

fn start(args: &SubmitArgs, connection: &Connection, folder: &Path) -> Result<Child, Error> {
    let mut places: Vec<PathBuf> = vec![folder.to_path_buf()];
    for file in &args.py_files {
        places.push(if is_python(file) { folder_of(file)? } else { std::path::absolute(file)? });
    }
    if let Some(before) = std::env::var_os("PYTHONPATH").filter(|before| !before.is_empty()) {
        places.extend(std::env::split_paths(&before));
    }
    let path: OsString = std::env::join_paths(places).map_err(|error| {
        Error::Usage(format!("[INVALID_ARGUMENT] a path of --py-files cannot stand in PYTHONPATH: {error}"))
    })?;
    let mut command = Command::new(&args.python);
    command.arg(&args.file).args(&args.args);
    command.env("PYTHONPATH", path).env("SPARK_REMOTE", &connection.remote);
    // Where PySpark would run something of its own instead.
    for name in ["MASTER", "SPARK_LOCAL_REMOTE", "SPARK_CONNECT_MODE_ENABLED", "SPARK_API_MODE"] {
        command.env_remove(name);
    }
    command.spawn().map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => Error::Usage(format!(
            "[PYTHON_NOT_FOUND] there is no Python {0}: install it, with PySpark (pip install 'pyspark[connect]'), or name \
             another with --python",
            args.python
        )),
        _ => Error::Failed(format!("failed to start {}: {error}", args.python)),
    })
}

/// The folder in which a module is looked for.
fn folder_of(file: &Path) -> io::Result<PathBuf> {
    let file = std::path::absolute(file)?;
    Ok(file.parent().map_or_else(PathBuf::new, Path::to_path_buf))
}

/// Waits for the script, passing signals on to it.
#[cfg(unix)]
async fn wait(child: &mut Child) -> Result<ExitStatus, Error> {
    use tokio::signal::unix::{SignalKind, signal};
    let (mut interrupts, mut terminations) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    loop {
        tokio::select! {
            ended = child.wait() => return Ok(ended?),
            _ = interrupts.recv() => {
                // A terminal sends ctrl-C to the script as well.
                if !io::stdin().is_terminal() {
                    send(child, "INT").await?;
                }
            }
            _ = terminations.recv() => send(child, "TERM").await?,
        }
    }
}

#[cfg(not(unix))]
async fn wait(child: &mut Child) -> Result<ExitStatus, Error> {
    loop {
        tokio::select! {
            ended = child.wait() => return Ok(ended?),
            // The console sends it to the script as well.
            pressed = tokio::signal::ctrl_c() => pressed?,
        }
    }
}

/// Sends a signal by the shell, which is where there is one: the standard library has none.
#[cfg(unix)]
async fn send(child: &Child, signal: &str) -> io::Result<()> {
    if let Some(id) = child.id() {
        // A script that has ended in this moment needs no signal.
        Command::new("sh").arg("-c").arg(format!("kill -{signal} {id} 2>/dev/null")).status().await?;
    }
    Ok(())
}

fn exit_code(status: ExitStatus) -> u8 {
    #[cfg(unix)]
    let signal = std::os::unix::process::ExitStatusExt::signal(&status);
    #[cfg(not(unix))]
    let signal: Option<i32> = None;
    let code = status.code().or(signal.map(|signal| SIGNAL_CODE + signal)).unwrap_or(1);
    u8::try_from(code & 0xff).unwrap_or(1)
}

/// A query that the script started.
#[derive(Debug, Clone, PartialEq, Deserialize)]
struct Started {
    id: String,
    name: Option<String>,
}

/// What the script started, in its order.
fn recorded(file: &Path) -> Result<Vec<Started>, Error> {
    let text = match std::fs::read_to_string(file) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(vec![]),
        Err(error) => return Err(error.into()),
    };
    let mut started: Vec<Started> = vec![];
    for line in text.lines() {
        let query: Started = serde_json::from_str(line)
            .map_err(|error| Error::Failed(format!("{} has a line that is no query: {error}", file.display())))?;
        started.retain(|known| known.id != query.id);
        started.push(query);
    }
    Ok(started)
}

/// Says what became of the queries, and stops them if they are to end with the script.
async fn finish(remote: &Remote, started: &[Started], args: &SubmitArgs) -> Result<(), Error> {
    for query in started {
        let found = match args.stop_on_exit {
            true => remote.stop(&query.id).await,
            false => remote.get(&query.id).await,
        };
        let status = match found {
            Ok(status) => status,
            Err(error) if error.is_away() => {
                eprintln!("query {}: {error}", query.name.as_ref().unwrap_or(&query.id));
                continue;
            }
            // Nobody asks for it any more: it has been deleted.
            Err(_) => QueryStatus {
                id: query.id.clone(),
                name: query.name.clone().unwrap_or_default(),
                state: "STOPPED".into(),
                ..QueryStatus::default()
            },
        };
        let mut out = io::stdout().lock();
        match args.json {
            true => writeln!(out, "{}", status_json(&status))?,
            false => writeln!(out, "{}\t{}", status.id, status.name)?,
        }
        out.flush()?;
        eprintln!("{}", farewell(&status));
    }
    Ok(())
}

fn farewell(status: &QueryStatus) -> String {
    let name = if status.name.is_empty() { &status.id } else { &status.name };
    if is_active(&status.state) {
        format!(
            "{name} goes on: follow it with: headwater query progress {name} --follow; stop it with: headwater query stop \
             {name}",
        )
    } else if status.state == "FAILED" {
        format!("{name}: FAILED {}", status.message)
    } else {
        format!("{name}: {}", output::state(&status.state, false))
    }
}

#[cfg(test)]
mod tests {
    use super::super::args::{Cli, Command as CliCommand};
    use super::*;
    use clap::Parser;

    fn args(line: &[&str]) -> SubmitArgs {
        match Cli::parse_from([&["headwater", "submit"], line].concat()).command {
            CliCommand::Submit(args) => args,
            other => panic!("not submit: {other:?}"),
        }
    }

    #[test]
    fn what_a_script_cannot_be_told() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("a.py");
        std::fs::write(&file, "").expect("written");
        let file = file.to_str().expect("UTF-8");
        let refused = |line: &[&str], expect: &str| match check(&args(line)) {
            Err(Error::Usage(text)) => assert!(text.contains(expect), "{text}"),
            other => panic!("{line:?}: {other:?}"),
        };
        assert!(check(&args(&[file, "--name", "n", "--conf", "a=b", "--py-files", file, "--", "--x"])).is_ok());
        refused(&[file, "--trigger", "once"], "writeStream.trigger");
        refused(&[file, "--checkpoint", "/c"], "checkpointLocation");
        refused(&[file, "--set", "a=b"], "after --");
        refused(&["/nowhere/a.py"], "/nowhere/a.py");
        refused(&[file, "--py-files", "/nowhere/b.zip"], "/nowhere/b.zip");
    }

    #[test]
    fn connections() {
        let endpoints = EndpointsResponse { connect_port: 15002, http_port: 4040, ..Default::default() };
        let check = |scheduler: &str, connect: Option<&str>, expect: &str| {
            let connection = Connection::of(scheduler, &endpoints, connect).expect("it serves");
            assert_eq!((connection.remote.as_str(), connection.ui.ends_with(":4040")), (expect, true));
        };
        check("host:50050", None, "sc://host:15002");
        check("http://host:50050", None, "sc://host:15002");
        check("[::1]:50050", None, "sc://[::1]:15002");
        check("host:50050", Some("other:1"), "sc://other:1");
        check("host:50050", Some("sc://other:1/;use_ssl=true"), "sc://other:1/;use_ssl=true");
        assert!(Connection::of("h:1", &EndpointsResponse::default(), None).is_err());
    }

    #[test]
    fn a_query_that_was_started_again_is_listed_once() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("queries.jsonl");
        assert_eq!(recorded(&file).expect("none"), []);
        let lines = "{\"id\":\"1\",\"runId\":\"a\",\"name\":null}\n{\"id\":\"2\",\"runId\":\"b\",\"name\":\"n\"}\n\
                     {\"id\":\"1\",\"runId\":\"c\",\"name\":null}\n";
        std::fs::write(&file, lines).expect("written");
        let ids: Vec<_> = recorded(&file).expect("two").into_iter().map(|query| query.id).collect();
        assert_eq!(ids, ["2", "1"]);
        std::fs::write(&file, "{").expect("written");
        assert!(recorded(&file).is_err());
    }

    #[test]
    fn settings_are_beneath_the_script_s() {
        let connection = Connection { remote: "sc://h:1".into(), ui: "http://h:2".into() };
        let app_name = |line: &[&str]| {
            let folder = prepare(&args(line), &connection).expect("a folder");
            let text = std::fs::read_to_string(folder.path().join("settings.json")).expect("written");
            let settings: serde_json::Value = serde_json::from_str(&text).expect("JSON");
            settings["conf"]["spark.app.name"].as_str().map(str::to_string)
        };
        assert_eq!(app_name(&["dir/a.py"]).as_deref(), Some("a.py"));
        assert_eq!(app_name(&["a.py", "--name", "n"]).as_deref(), Some("n"));
        assert_eq!(app_name(&["a.py", "--name", "n", "--conf", "spark.app.name=c"]).as_deref(), Some("c"));
    }

    #[test]
    fn farewells_say_how_to_go_on() {
        let status = |state: &str| QueryStatus { name: "q".into(), state: state.into(), ..QueryStatus::default() };
        assert!(farewell(&status("RUNNING")).contains("headwater query stop q"));
        assert_eq!(farewell(&status("STOPPED")), "q: STOPPED");
        assert!(farewell(&status("FAILED")).starts_with("q: FAILED"));
    }
}
