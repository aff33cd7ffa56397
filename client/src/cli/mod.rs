//! The command line: one file a command. Results to stdout, all else to stderr; exit codes in [`Error::code`].

pub mod args;
#[cfg(feature = "standalone")]
mod bench;
#[cfg(feature = "standalone")]
mod demo;
mod follow;
mod health;
mod ingest;
mod output;
mod prompt;
mod query;
mod script;
#[cfg(feature = "standalone")]
mod server;
mod sql;
mod submit;
mod submit_python;
#[cfg(feature = "standalone")]
mod topic;
#[cfg(feature = "standalone")]
mod traces;

use crate::{remote, session};
use args::{Cli, Command, LogArgs, LogFormat};
use clap::Parser;
use std::future::Future;
use std::io;
use std::path::Path;
use std::process::ExitCode;
#[cfg(unix)]
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::{Event, Metadata, Subscriber, field};
use tracing_subscriber::filter::{FilterExt, LevelFilter};
use tracing_subscriber::layer::{Context, Filter, Layer, SubscriberExt};
use tracing_subscriber::registry::Registry;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, registry::LookupSpan};

/// How a command ended, if not well.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The command line, a file it names or the settings are wrong.
    #[error("{0}")]
    Usage(String),
    /// The work failed.
    #[error("{0}")]
    Failed(String),
    /// No scheduler was reached.
    #[error("{0}")]
    NoScheduler(String),
    /// ctrl-C or SIGTERM.
    #[error("interrupted")]
    Interrupted,
    /// A script that was run, or a query that was followed, ended with this code, and it has been said why.
    #[error("it ended with exit code {0}")]
    Exit(u8),
    /// Whoever read stdout has gone, as `head` does: no failure of ours.
    #[error("stdout was closed")]
    Closed,
}

impl Error {
    /// What the process ends with.
    pub fn code(&self) -> u8 {
        match self {
            Self::Closed => 0,
            Self::Failed(_) => 1,
            Self::Usage(_) => 2,
            Self::NoScheduler(_) => 3,
            Self::Interrupted => 130,
            Self::Exit(code) => *code,
        }
    }
}

impl From<remote::Error> for Error {
    fn from(error: remote::Error) -> Self {
        match error {
            remote::Error::BadAddress { .. } => Self::Usage(error.to_string()),
            remote::Error::Unreachable { .. } | remote::Error::Lost { .. } | remote::Error::Standby(_) => {
                Self::NoScheduler(error.to_string())
            }
            remote::Error::Refused(_) => Self::Failed(error.to_string()),
        }
    }
}

impl From<session::Error> for Error {
    fn from(error: session::Error) -> Self {
        match error {
            session::Error::Remote(error) => error.into(),
            session::Error::Malformed { .. } => Self::Failed(error.to_string()),
        }
    }
}

impl From<io::Error> for Error {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe { Self::Closed } else { Self::Failed(error.to_string()) }
    }
}

impl From<arrow::error::ArrowError> for Error {
    fn from(error: arrow::error::ArrowError) -> Self {
        match error {
            arrow::error::ArrowError::IoError(_, error) => error.into(),
            error => Self::Failed(format!("failed to show a result: {error}")),
        }
    }
}

#[cfg(feature = "standalone")]
impl From<anyhow::Error> for Error {
    fn from(error: anyhow::Error) -> Self {
        if error.is::<crate::standalone::Interrupted>() {
            return Self::Interrupted;
        }
        Self::Failed(format!("{error:#}"))
    }
}

/// Of each thread; what is not used takes no memory.
const STACK_BYTES: usize = 16 << 20;

/// Parses the command line, runs the command, says what went wrong.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    // Clients wait for one connection: one thread serves them, and starts sooner than a pool.
    #[cfg(feature = "standalone")]
    let many = matches!(
        cli.command,
        Command::Demo(_) | Command::Standalone(_) | Command::Scheduler(_) | Command::Executor(_) | Command::Bench(_)
    );
    #[cfg(not(feature = "standalone"))]
    let many = false;
    let mut builder =
        if many { tokio::runtime::Builder::new_multi_thread() } else { tokio::runtime::Builder::new_current_thread() };
    // DataFusion walks some of a plan by recursion, and plans are as deep as clients make them.
    let outcome = match builder.thread_stack_size(STACK_BYTES).enable_all().build() {
        Ok(runtime) => {
            let outcome = runtime.block_on(async {
                let outcome = run(cli).await;
                // A second signal ends at once.
                #[cfg(feature = "standalone")]
                if !matches!(outcome, Err(Error::Interrupted)) {
                    traces::end().await;
                }
                outcome
            });
            // A read of stdin cannot be interrupted: its thread ends with the process.
            runtime.shutdown_background();
            outcome
        }
        Err(error) => Err(Error::Failed(format!("failed to start the runtime: {error}"))),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            if !matches!(error, Error::Closed | Error::Interrupted | Error::Exit(_)) {
                eprintln!("error: {error}");
            }
            ExitCode::from(error.code())
        }
    }
}

async fn run(cli: Cli) -> Result<(), Error> {
    match cli.command {
        #[cfg(feature = "standalone")]
        Command::Scheduler(args) => server::scheduler(args, &cli.log).await,
        #[cfg(feature = "standalone")]
        Command::Executor(args) => server::executor(args, &cli.log).await,
        #[cfg(feature = "standalone")]
        Command::Standalone(args) => server::standalone(args, &cli.log).await,
        command => {
            start_log(&cli.log, "warn")?;
            client(command).await
        }
    }
}

async fn client(command: Command) -> Result<(), Error> {
    match command {
        Command::Submit(args) => submit::run(args).await,
        Command::Sql(args) => sql::run(args).await,
        Command::Query(args) => query::run(args).await,
        Command::Ingest(args) => ingest::run(args).await,
        Command::Health(args) => health::run(args).await,
        #[cfg(feature = "standalone")]
        Command::Topic(args) => topic::run(args).await,
        #[cfg(feature = "standalone")]
        Command::Demo(args) => demo::run(args).await,
        #[cfg(feature = "standalone")]
        Command::Bench(args) => bench::run(args).await,
        #[cfg(feature = "standalone")]
        Command::Scheduler(_) | Command::Executor(_) | Command::Standalone(_) => Ok(()),
    }
}

/// The filter of a level: it is ours, the engine below says only what is wrong.
fn filter(level: &str) -> String {
    if level.contains(['=', ',']) || matches!(level, "error" | "warn" | "off") {
        return level.to_string();
    }
    let ours = ["headwater", "headwater_executor", "headwater_proto", "headwater_scheduler"];
    ours.iter().fold(String::from("warn"), |filter, target| format!("{filter},{target}={level}"))
}

/// Lines of the libraries below us, by target and beginning, that report as a fault what is none, or what comes to us as
/// an error too and is told from there.
const HARMLESS: [(&str, &str); 5] = [
    // A job that was cancelled: its last tasks report to nobody.
    ("ballista_scheduler::state::task_manager", "Fail to find job "),
    ("ballista_executor::executor", "Task has been aborted!"),
    // And one that ended as it was cancelled is cleaned up twice.
    ("ballista_scheduler::cluster::memory", "Tried to delete non-existent job "),
    ("ballista_core::utils", "Failed to create partition file at "),
    // Every attempt to connect is somebody's, who gets the error.
    ("scylla::cluster::metadata::cc_establisher", ""),
];

/// Leaves [`HARMLESS`] lines out.
struct WithoutHarmless;

impl<S: Subscriber + for<'a> LookupSpan<'a>> Filter<S> for WithoutHarmless {
    fn enabled(&self, _: &Metadata<'_>, _: &Context<'_, S>) -> bool {
        true
    }
    fn event_enabled(&self, event: &Event<'_>, _: &Context<'_, S>) -> bool {
        let target = event.metadata().target();
        if target != LOG && HARMLESS.iter().all(|(harmless, _)| *harmless != target) {
            return true;
        }
        let mut line = Line { target: target.to_string(), message: String::new() };
        event.record(&mut line);
        HARMLESS.iter().all(|(target, begin)| line.target != *target || !line.message.starts_with(begin))
    }
}

/// The target that lines of crate `log` come under; their own is a field.
const LOG: &str = "log";

/// What a line is known by.
struct Line {
    target: String,
    message: String,
}

impl field::Visit for Line {
    fn record_debug(&mut self, field: &field::Field, value: &dyn std::fmt::Debug) {
        if field.name() == "message" {
            self.message = format!("{value:?}");
        }
    }
    fn record_str(&mut self, field: &field::Field, value: &str) {
        match field.name() {
            "log.target" => self.target = value.to_string(),
            "message" => self.message = value.to_string(),
            _ => {}
        }
    }
}

/// Logs to stderr from here on.
fn start_log(log: &LogArgs, default: &str) -> Result<(), Error> {
    start_tracing(log, default, None::<LevelFilter>)
}

/// The same, and what else is to see spans and events.
fn start_tracing(log: &LogArgs, default: &str, other: Option<impl Layer<Registry> + Send + Sync>) -> Result<(), Error> {
    let level = log.log.as_deref().unwrap_or(default);
    let filter = EnvFilter::builder().parse(filter(level)).map_err(|error| {
        Error::Usage(format!(
            "[INVALID_LOG_LEVEL] {level:?} is no log level ({error}): give error, warn, info, debug, trace or a filter \
             such as headwater_scheduler=debug"
        ))
    })?;
    let colours =
        io::IsTerminal::is_terminal(&io::stderr()) && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let lines = tracing_subscriber::fmt::layer().with_writer(io::stderr).with_ansi(colours);
    let filter = filter.and(WithoutHarmless);
    let subscriber = tracing_subscriber::registry().with(other);
    let started = match log.log_format.unwrap_or(LogFormat::Text) {
        LogFormat::Text => subscriber.with(lines.with_filter(filter)).try_init(),
        LogFormat::Json => subscriber.with(lines.json().with_filter(filter)).try_init(),
    };
    started.map_err(|error| Error::Failed(format!("failed to start the log: {error}")))
}

/// A file's text; `-` is stdin. What cannot be read is wrong usage.
async fn read_text(path: &Path) -> Result<String, Error> {
    if path == Path::new("-") {
        let text = tokio::task::spawn_blocking(|| io::read_to_string(io::stdin().lock())).await;
        return text
            .map_err(|error| Error::Failed(error.to_string()))?
            .map_err(|error| Error::Usage(format!("[UNREADABLE_FILE] failed to read stdin: {error}")));
    }
    tokio::fs::read_to_string(path).await.map_err(|error| {
        Error::Usage(format!("[UNREADABLE_FILE] failed to read {}: {error}; check the path", path.display()))
    })
}

/// What asks the process to end: ctrl-C, and the system. None is missed from when it is made, which happens before
/// anything says that the process runs: one that came in between two waits would be.
struct Interrupts {
    #[cfg(unix)]
    pressed: Signal,
    #[cfg(unix)]
    terminated: Signal,
}

impl Interrupts {
    fn new() -> io::Result<Self> {
        Ok(Self {
            #[cfg(unix)]
            pressed: signal(SignalKind::interrupt())?,
            #[cfg(unix)]
            terminated: signal(SignalKind::terminate())?,
        })
    }

    /// Resolves when the process is asked to end, or has been since the last time.
    async fn next(&mut self) -> io::Result<()> {
        #[cfg(unix)]
        tokio::select! {
            _ = self.pressed.recv() => {}
            _ = self.terminated.recv() => {}
        }
        #[cfg(not(unix))]
        tokio::signal::ctrl_c().await?;
        Ok(())
    }

    /// Runs `work` unless the process is asked to end.
    async fn unless<T>(&mut self, work: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
        tokio::select! {
            outcome = work => outcome,
            pressed = self.next() => {
                pressed?;
                Err(Error::Interrupted)
            }
        }
    }
}

/// Resolves when the user or the system asks the process to end, from now on.
async fn interrupted() -> io::Result<()> {
    Interrupts::new()?.next().await
}

/// Runs `work` unless the user or the system asks the process to end.
async fn unless_interrupted<T>(work: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    Interrupts::new()?.unless(work).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters() {
        fn check(level: &str, expect: &str) {
            assert_eq!(filter(level), expect);
        }
        check("warn", "warn");
        check("headwater_scheduler=debug", "headwater_scheduler=debug");
        check("warn,ballista=info", "warn,ballista=info");
        assert!(filter("info").starts_with("warn,headwater=info"));
        assert!(EnvFilter::builder().parse(filter("debug")).is_ok());
    }

    #[test]
    fn harmless_lines_are_left_out() {
        #[derive(Clone, Default)]
        struct Memory(std::sync::Arc<std::sync::Mutex<Vec<u8>>>);
        impl io::Write for Memory {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                self.0.lock().expect("no panic").write(bytes)
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let memory = Memory::default();
        let writer = memory.clone();
        let lines = tracing_subscriber::fmt::layer().with_writer(move || writer.clone()).with_ansi(false);
        let filter = EnvFilter::new("warn").and(WithoutHarmless);
        tracing::subscriber::with_default(tracing_subscriber::registry().with(lines.with_filter(filter)), || {
            tracing::error!(target: "ballista_scheduler::state::task_manager", "Fail to find job {}", "j");
            tracing::warn!(target: "log", { log.target = "ballista_executor::executor" }, "Task has been aborted!");
            tracing::error!(target: "log", { log.target = "ballista_executor::executor" }, "no disk left");
            tracing::error!(target: "ballista_scheduler::state::task_manager", "task {} is stuck", "t");
            tracing::warn!(target: "ballista_scheduler::cluster::memory", "Tried to delete non-existent job j from state");
            tracing::error!(target: "scylla::cluster::metadata::cc_establisher", "whatever");
            tracing::error!("Fail to find job {}", "of ours");
            tracing::info!("too low");
        });
        let text = String::from_utf8(memory.0.lock().expect("no panic").clone()).expect("UTF-8");
        let lines: Vec<_> = text.lines().collect();
        assert!(lines.len() == 3 && lines[0].contains("no disk left"), "{text}");
        assert!(lines[1].ends_with("task t is stuck"), "{text}");
        assert!(lines[2].ends_with("Fail to find job of ours"), "{text}");
    }

    #[test]
    fn codes() {
        fn check(error: impl Into<Error>, expect: u8) {
            assert_eq!(error.into().code(), expect);
        }
        check(remote::Error::BadAddress { address: "x".into() }, 2);
        check(remote::Error::Unreachable { addresses: "x".into(), cause: "refused".into() }, 3);
        check(remote::Error::Lost { address: "x".into(), cause: "reset".into() }, 3);
        check(remote::Error::Standby("x".into()), 3);
        check(remote::Error::Refused(Box::new(tonic::Status::not_found("no"))), 1);
        check(io::Error::from(io::ErrorKind::BrokenPipe), 0);
        check(io::Error::from(io::ErrorKind::StorageFull), 1);
        check(Error::Interrupted, 130);
    }
}
