//! `headwater scheduler`, `executor` and `standalone`: settings, then a process that runs until it is told to end.
//!
//! ```text
//! starting ──► listening ──signal──► draining ──► ended (0)
//!    │             │                    │ second signal: ended at once (130)
//!    └─────────────┴── a part fails ──► ended (1)
//! ```

use super::args::{ExecutorArgs, LogArgs, LogFormat, SchedulerArgs, StandaloneArgs};
use super::{Error, Interrupts, interrupted, traces};
use crate::remote::DEFAULT_SCHEDULER;
use crate::standalone::{Cluster, Options, again};
use figment::Figment;
use figment::providers::{Format, Serialized, Toml};
use headwater_executor::connectors::secrets::DEFAULT_FOLDER;
use headwater_executor::memory;
use headwater_executor::process::{self as executor, ExecutorOptions};
use headwater_proto::secret::Secret;
use headwater_scheduler::connect::server as connect;
use headwater_scheduler::ha::Ha;
use headwater_scheduler::process::{self as scheduler, SchedulerHandle, SchedulerOptions};
use headwater_scheduler::streaming::trigger::parse_interval;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::future::Future;
use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Settings of `headwater scheduler`; the keys of its file are the flags' names.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct SchedulerSettings {
    state_dir: String,
    bind: IpAddr,
    grpc_port: u16,
    connect_port: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    connect_token: Option<Secret>,
    #[serde(skip_serializing_if = "Option::is_none")]
    connect_session_timeout: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    connect_detached_timeout: Option<String>,
    http_port: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    postgres: Option<Secret>,
    secrets_dir: PathBuf,
    #[serde(skip_serializing_if = "Option::is_none")]
    drain_timeout: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ha: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    advertise: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    otlp_endpoint: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    log: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    log_format: Option<LogFormat>,
}

impl Default for SchedulerSettings {
    fn default() -> Self {
        Self {
            state_dir: "./headwater-state".into(),
            bind: Ipv4Addr::LOCALHOST.into(),
            grpc_port: 50050,
            connect_port: 15002,
            connect_token: None,
            connect_session_timeout: None,
            connect_detached_timeout: None,
            http_port: 4040,
            postgres: None,
            ha: None,
            advertise: None,
            secrets_dir: DEFAULT_FOLDER.into(),
            drain_timeout: None,
            otlp_endpoint: None,
            log: None,
            log_format: None,
        }
    }
}

/// Settings of `headwater standalone`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct StandaloneSettings {
    state_dir: String,
    bind: IpAddr,
    grpc_port: u16,
    connect_port: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    connect_token: Option<Secret>,
    #[serde(skip_serializing_if = "Option::is_none")]
    connect_session_timeout: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    connect_detached_timeout: Option<String>,
    http_port: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    postgres: Option<Secret>,
    secrets_dir: PathBuf,
    #[serde(skip_serializing_if = "Option::is_none")]
    drain_timeout: Option<String>,
    executors: usize,
    task_slots: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    work_dir: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    memory_limit: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    otlp_endpoint: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    log: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    log_format: Option<LogFormat>,
}

impl Default for StandaloneSettings {
    fn default() -> Self {
        let SchedulerSettings {
            state_dir,
            bind,
            grpc_port,
            connect_port,
            connect_token,
            connect_session_timeout,
            connect_detached_timeout,
            http_port,
            postgres,
            secrets_dir,
            drain_timeout,
            otlp_endpoint,
            log,
            log_format,
            ..
        } = SchedulerSettings::default();
        Self {
            state_dir,
            bind,
            grpc_port,
            connect_port,
            connect_token,
            connect_session_timeout,
            connect_detached_timeout,
            http_port,
            postgres,
            secrets_dir,
            drain_timeout,
            executors: 2,
            task_slots: cores(),
            work_dir: None,
            memory_limit: None,
            otlp_endpoint,
            log,
            log_format,
        }
    }
}

/// Settings of `headwater executor`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct ExecutorSettings {
    scheduler: String,
    task_slots: usize,
    bind: IpAddr,
    #[serde(skip_serializing_if = "Option::is_none")]
    work_dir: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    advertise: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    http_port: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    memory_limit: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    drain_timeout: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    otlp_endpoint: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    log: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    log_format: Option<LogFormat>,
}

impl Default for ExecutorSettings {
    fn default() -> Self {
        Self {
            scheduler: DEFAULT_SCHEDULER.into(),
            task_slots: cores(),
            bind: Ipv4Addr::LOCALHOST.into(),
            work_dir: None,
            advertise: None,
            http_port: None,
            memory_limit: None,
            drain_timeout: None,
            otlp_endpoint: None,
            log: None,
            log_format: None,
        }
    }
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Defaults, then the file, then environment and flags, which clap has merged.
fn layer<S>(file: Option<(&Path, &str)>, flags: &impl Serialize, log: &LogArgs) -> Result<S, Error>
where
    S: Default + Serialize + DeserializeOwned,
{
    let mut settings = Figment::from(Serialized::defaults(S::default()));
    if let Some((_, text)) = file {
        settings = settings.merge(Toml::string(text));
    }
    settings.merge(Serialized::defaults(flags)).merge(Serialized::defaults(log)).extract().map_err(|error| {
        let place = file.map(|(path, _)| format!(" in {}", path.display())).unwrap_or_default();
        let reasons: Vec<_> = error.into_iter().map(|error| reason(&error)).collect();
        Error::Usage(format!("[INVALID_CONFIG] wrong settings{place}: {}", reasons.join("; ")))
    })
}

/// What is wrong with one key of the settings.
fn reason(error: &figment::Error) -> String {
    match &error.kind {
        figment::error::Kind::UnknownField(key, known) => {
            format!("there is no key {key}; there are {}", known.join(", "))
        }
        kind if error.path.is_empty() => kind.to_string(),
        kind => format!("{}: {kind}", error.path.join(".")),
    }
}

fn settings<S>(config: Option<&Path>, flags: &impl Serialize, log: &LogArgs) -> Result<S, Error>
where
    S: Default + Serialize + DeserializeOwned,
{
    let Some(path) = config else { return layer(None, flags, log) };
    let text = std::fs::read_to_string(path).map_err(|error| {
        Error::Usage(format!("[UNREADABLE_FILE] failed to read {}: {error}; check --config", path.display()))
    })?;
    layer(Some((path, &text)), flags, log)
}

/// Zero of anything here could never do any work.
fn positive(name: &str, value: usize) -> Result<usize, Error> {
    if value == 0 {
        return Err(Error::Usage(format!("[INVALID_CONFIG] {name} is 0: give a number of 1 or more")));
    }
    Ok(value)
}

/// Logs, and exports traces when told to.
fn start_tracing(
    service: &'static str,
    otlp_endpoint: Option<&str>,
    log: Option<String>,
    log_format: Option<LogFormat>,
) -> Result<(), Error> {
    let exported = otlp_endpoint.map(|endpoint| traces::start(endpoint, service)).transpose()?;
    super::start_tracing(&LogArgs { log, log_format }, "info", exported)
}

/// Runs `headwater scheduler`.
pub async fn scheduler(args: SchedulerArgs, log: &LogArgs) -> Result<(), Error> {
    let settings: SchedulerSettings = settings(args.config.as_deref(), &args.flags, log)?;
    start_tracing("headwater-scheduler", settings.otlp_endpoint.as_deref(), settings.log, settings.log_format)?;
    let options = SchedulerOptions {
        state_dir: settings.state_dir,
        bind: settings.bind,
        grpc_port: settings.grpc_port,
        connect_port: settings.connect_port,
        connect: connect_options(
            settings.connect_token,
            settings.connect_session_timeout.as_deref(),
            settings.connect_detached_timeout.as_deref(),
        )?,
        http_port: settings.http_port,
        postgres: settings.postgres,
        ha: settings.ha.as_deref().map(ha).transpose()?,
        advertise: settings.advertise,
        secrets_dir: settings.secrets_dir,
        drain_timeout: drain_timeout(settings.drain_timeout.as_deref())?,
    };
    say_what_is_exposed(options.bind, "SQL, Spark Connect and the API of this scheduler");
    let mut interrupts = Interrupts::new()?;
    let mut handle = interrupts.unless(starting(scheduler::start(options))).await?;
    announce(&addresses(&handle), args.json)?;
    tokio::select! {
        failure = handle.wait_failed() => return Err(failure.into()),
        pressed = interrupts.next() => pressed?,
    }
    drain(handle.shutdown()).await
}

/// Runs `headwater standalone`.
pub async fn standalone(args: StandaloneArgs, log: &LogArgs) -> Result<(), Error> {
    let settings: StandaloneSettings = settings(args.config.as_deref(), &args.flags, log)?;
    start_tracing("headwater-standalone", settings.otlp_endpoint.as_deref(), settings.log, settings.log_format)?;
    let options = Options {
        scheduler: SchedulerOptions {
            state_dir: settings.state_dir,
            bind: settings.bind,
            grpc_port: settings.grpc_port,
            connect_port: settings.connect_port,
            connect: connect_options(
                settings.connect_token,
                settings.connect_session_timeout.as_deref(),
                settings.connect_detached_timeout.as_deref(),
            )?,
            http_port: settings.http_port,
            postgres: settings.postgres,
            ha: None,
            advertise: None,
            secrets_dir: settings.secrets_dir,
            drain_timeout: drain_timeout(settings.drain_timeout.as_deref())?,
        },
        executors: positive("executors", settings.executors)?,
        task_slots: positive("task-slots", settings.task_slots)?,
        work_dir: settings.work_dir,
        memory_limit: memory_limit(settings.memory_limit.as_deref(), settings.executors)?,
    };
    say_what_is_exposed(options.scheduler.bind, "SQL, Spark Connect, the API and the executors of this process");
    let mut interrupts = Interrupts::new()?;
    let mut cluster = interrupts.unless(starting(Cluster::start(options))).await?;
    let mut lines = addresses(cluster.scheduler());
    lines.extend(cluster.executors().into_iter().map(|id| ("executor", id)));
    announce(&lines, args.json)?;
    tokio::select! {
        failure = cluster.wait_failed() => return Err(failure.into()),
        pressed = interrupts.next() => pressed?,
    }
    drain(cluster.shutdown()).await
}

/// Runs `headwater executor`.
pub async fn executor(args: ExecutorArgs, log: &LogArgs) -> Result<(), Error> {
    let settings: ExecutorSettings = settings(args.config.as_deref(), &args.flags, log)?;
    start_tracing("headwater-executor", settings.otlp_endpoint.as_deref(), settings.log, settings.log_format)?;
    let schedulers: Vec<_> =
        settings.scheduler.split(',').map(|address| address.trim().to_string()).filter(|a| !a.is_empty()).collect();
    if schedulers.is_empty() {
        return Err(Error::Usage("[INVALID_CONFIG] scheduler is empty: give HOST:PORT".into()));
    }
    let mut interrupts = Interrupts::new()?;
    eprintln!("registering with {}", schedulers.join(", "));
    let options = ExecutorOptions {
        schedulers,
        task_slots: positive("task-slots", settings.task_slots)?,
        work_dir: settings.work_dir,
        bind: settings.bind,
        advertise: settings.advertise,
        http_port: settings.http_port,
        memory_limit: memory_limit(settings.memory_limit.as_deref(), 1)?,
        drain_timeout: drain_timeout(settings.drain_timeout.as_deref())?,
    };
    say_what_is_exposed(options.bind, "tasks and results of this executor");
    let mut handle = interrupts.unless(starting(executor::start(options))).await?;
    let mut lines = vec![("executor", handle.id())];
    lines.extend(handle.http_addr().map(|address| ("http", address.to_string())));
    announce(&lines, args.json)?;
    tokio::select! {
        failure = handle.wait_failed() => return Err(failure.into()),
        pressed = interrupts.next() => pressed?,
    }
    drain(handle.drain()).await
}

fn ha(text: &str) -> Result<Ha, Error> {
    text.parse().map_err(|reason| Error::Usage(format!("[INVALID_CONFIG] ha: {reason}")))
}

/// The bound of a drain that the settings name.
fn drain_timeout(text: Option<&str>) -> Result<Duration, Error> {
    let Some(text) = text else { return Ok(executor::DRAIN_TIMEOUT) };
    parse_interval(text).map_err(|error| Error::Usage(format!("[INVALID_CONFIG] drain-timeout: {}", error.message)))
}

/// What operators of each executor may hold: as the settings say, or of what the machine or the container has.
fn memory_limit(text: Option<&str>, executors: usize) -> Result<Option<u64>, Error> {
    match text {
        None => Ok(memory::default_limit(executors)),
        Some("none") => Ok(None),
        Some(text) => memory::parse_bytes(text)
            .map(Some)
            .map_err(|why| Error::Usage(format!("[INVALID_CONFIG] memory-limit: {why}; none is no limit"))),
    }
}

/// One line for whoever opens the ports of a process to others.
fn say_what_is_exposed(bind: IpAddr, what: &str) {
    if !bind.is_loopback() {
        tracing::warn!(%bind, "{what} can be used by everyone who reaches {bind}: there is no login and no TLS");
    }
}

fn connect_options(
    token: Option<Secret>,
    session_timeout: Option<&str>,
    detached_timeout: Option<&str>,
) -> Result<connect::Options, Error> {
    let interval = |key: &str, text: &str| match parse_interval(text) {
        Ok(interval) if !interval.is_zero() => Ok(interval),
        Ok(_) => Err(Error::Usage(format!("[INVALID_CONFIG] {key} must be longer than nothing"))),
        Err(error) => Err(Error::Usage(format!("[INVALID_CONFIG] {key}: {}", error.message))),
    };
    let mut options = connect::Options { token, ..Default::default() };
    if let Some(text) = session_timeout {
        options.limits.idle = interval("connect-session-timeout", text)?;
    }
    if let Some(text) = detached_timeout {
        options.limits.operation.detached_timeout = interval("connect-detached-timeout", text)?;
    }
    Ok(options)
}

/// What starts may wait for others: a signal ends that.
async fn starting<T>(start: impl Future<Output = anyhow::Result<T>>) -> Result<T, Error> {
    Ok(start.await?)
}

fn addresses(handle: &SchedulerHandle) -> Vec<(&'static str, String)> {
    vec![
        ("grpc", handle.grpc_addr().to_string()),
        ("connect", handle.connect_addr().to_string()),
        ("http", handle.http_addr().to_string()),
    ]
}

/// Says what listens where: a line each on stderr, and with --json one object on stdout.
fn announce(lines: &[(&str, String)], json: bool) -> Result<(), Error> {
    for (name, value) in lines {
        match *name {
            "executor" => eprintln!("executor {value} registered"),
            _ => eprintln!("{name} listening on {value}"),
        }
    }
    if json {
        let mut out = io::stdout().lock();
        writeln!(out, "{}", announcement(lines))?;
        out.flush()?;
    }
    Ok(())
}

/// Executors, of which there are several, stand in an array.
fn announcement(lines: &[(&str, String)]) -> serde_json::Value {
    let mut object = serde_json::Map::new();
    for (name, value) in lines {
        if *name == "executor" {
            let executors = object.entry("executors").or_insert_with(|| json!([]));
            executors.as_array_mut().expect("executors is an array").push(json!(value));
        } else {
            object.insert((*name).to_string(), json!(value));
        }
    }
    object.into()
}

/// Ends what runs, unless a second signal says that this takes too long.
async fn drain(end: impl Future<Output = anyhow::Result<()>>) -> Result<(), Error> {
    eprintln!("ending once running batches have; once more to end at once");
    tokio::select! {
        ended = end => Ok(ended?),
        pressed = again(&interrupted) => {
            pressed?;
            Err(Error::Interrupted)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::args::{ExecutorFlags, SchedulerFlags, StandaloneFlags};
    use super::*;

    #[test]
    fn wrong_settings_name_the_key() {
        fn check(file: &str, expect: &str) {
            let flags = SchedulerFlags::default();
            let wrong = layer::<SchedulerSettings>(Some((Path::new("h.toml"), file)), &flags, &LogArgs::default());
            let message = wrong.expect_err(file).to_string();
            assert!(message.contains("h.toml") && message.contains(expect), "{message}");
        }
        check("state-dri = 'x'", "there is no key state-dri; there are state-dir, bind");
        check("grpc-port = 'x'", "grpc-port: ");
        check("state-dir = 5", "state-dir: ");
    }

    #[test]
    fn ways_to_find_out_who_leads() {
        let check = |text: &str, expect: &str| {
            let shown = ha(text).map_or_else(|error| error.to_string(), |ha| ha.to_string());
            assert!(shown.contains(expect), "{text}: {shown}");
        };
        check("state-dir", "state-dir");
        check("zookeeper://a,b:2182/headwater", "zookeeper://a:2181,b:2182/headwater");
        check("zookeeper://a", "ha: no path is named");
        check("raft", "is none of state-dir, zookeeper://host:2181/path");
    }

    #[test]
    fn flags_stand_above_the_file_and_the_file_above_defaults() {
        let flags = SchedulerFlags { http_port: Some(0), ..SchedulerFlags::default() };
        let file = "state-dir = \"s3://b/s\"\nhttp-port = 1\nlog = \"debug\"";
        let settings: SchedulerSettings =
            layer(Some((Path::new("f"), file)), &flags, &LogArgs::default()).expect("good settings");
        let expect = SchedulerSettings {
            state_dir: "s3://b/s".into(),
            http_port: 0,
            log: Some("debug".into()),
            ..SchedulerSettings::default()
        };
        assert_eq!(settings, expect);
    }

    #[test]
    fn every_flag_is_a_key() {
        let file = "state-dir = \"s\"\nbind = \"::1\"\ngrpc-port = 1\nconnect-port = 2\nhttp-port = 3\nexecutors = 4\n\
                    connect-token = \"t\"\nconnect-session-timeout = \"2 hours\"\n\
                    connect-detached-timeout = \"1 minute\"\npostgres = \"postgresql://h/d\"\nsecrets-dir = \"s\"\n\
                    task-slots = 5\nwork-dir = \"w\"\nmemory-limit = \"1g\"\ndrain-timeout = \"5 seconds\"\nlog = \"info\"\nlog-format = \"json\"";
        let flags = StandaloneFlags::default();
        let settings: StandaloneSettings =
            layer(Some((Path::new("f"), file)), &flags, &LogArgs::default()).expect("good settings");
        assert_eq!((settings.connect_port, settings.executors, settings.task_slots), (2, 4, 5));
        assert_eq!((settings.log_format, settings.work_dir), (Some(LogFormat::Json), Some("w".into())));
        let (session, detached) = (settings.connect_session_timeout, settings.connect_detached_timeout);
        let options =
            connect_options(settings.connect_token, session.as_deref(), detached.as_deref()).expect("good settings");
        assert_eq!(options.token, Some(Secret::new("t")));
        assert_eq!((options.limits.idle.as_secs(), options.limits.operation.detached_timeout.as_secs()), (7200, 60));
        for wrong in ["0 seconds", "soon"] {
            let error = connect_options(None, Some(wrong), None).expect_err(wrong).to_string();
            assert!(error.contains("connect-session-timeout"), "{error}");
        }
    }

    #[test]
    fn bounds() {
        assert_eq!(drain_timeout(Some("5 seconds")).expect("an interval"), Duration::from_secs(5));
        assert_eq!(drain_timeout(None).expect("a default"), executor::DRAIN_TIMEOUT);
        assert_eq!(memory_limit(Some("2g"), 2).expect("a size"), Some(2 << 30));
        assert_eq!(memory_limit(Some("none"), 2).expect("no limit"), None);
        assert!(memory_limit(None, 2).expect("a default").is_some());
        for (wrong, key) in [
            (drain_timeout(Some("soon")).err(), "drain-timeout"),
            (memory_limit(Some("much"), 1).err(), "memory-limit"),
        ] {
            let wrong = wrong.expect("refused");
            assert!(wrong.code() == 2 && wrong.to_string().contains(key), "{wrong}");
        }
    }

    #[test]
    fn wrong_files() {
        fn check(file: &str, expect: &str) {
            let settings: Result<ExecutorSettings, _> =
                layer(Some((Path::new("f.toml"), file)), &ExecutorFlags::default(), &LogArgs::default());
            let error = settings.expect_err("wrong settings");
            assert_eq!(error.code(), 2);
            let text = error.to_string();
            assert!(text.contains("f.toml") && text.contains(expect), "{text}");
        }
        check("tusk-slots = 1", "tusk-slots");
        check("task-slots = \"many\"", "many");
        check("bind = \"here\"", "invalid IP address");
        check("= 1", "parse error");
    }

    #[test]
    fn announcements() {
        let lines = [("grpc", "a:1".to_string()), ("executor", "x".into()), ("executor", "y".into())];
        assert_eq!(announcement(&lines), json!({"grpc": "a:1", "executors": ["x", "y"]}));
    }

    #[test]
    fn zero_is_refused_by_name() {
        assert!(positive("task-slots", 0).expect_err("no work").to_string().contains("task-slots"));
    }
}
