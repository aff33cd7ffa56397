//! Every command and flag, with its environment variable and its help.
//!
//! Flags of the servers are optional here, since a `--config` file stands below them: their defaults are in
//! `server::…Settings`. Environment variables are clap's, so that flags, environment and help have one definition.

use crate::remote::DEFAULT_SCHEDULER;
use clap::builder::BoolishValueParser;
use clap::{Args, Parser, Subcommand, ValueEnum};
use headwater_proto::secret::Secret;
use std::fmt;
use std::path::PathBuf;

const EXAMPLES: &str = "\
Examples:
  headwater standalone                             a scheduler and two executors on this machine
  headwater submit users.sql --set kafka=localhost:9092
  headwater query list
  headwater sql \"SELECT country, count(*) FROM created_users GROUP BY country\"

Exit codes: 0 done, 1 the work failed, 2 wrong usage, 3 no scheduler reached, 130 interrupted.
Results go to stdout, everything else to stderr.";

/// Spark Structured Streaming and Spark SQL without a JVM.
///
/// One binary is scheduler, executor and client. Streams are written in SQL: tables name what is outside (Kafka,
/// Cassandra, Parquet files), flows move rows between them, and go on after a crash exactly where they were.
#[derive(Debug, Parser)]
#[command(name = "headwater", version, after_help = EXAMPLES, max_term_width = 100)]
pub struct Cli {
    /// Logging, for every command.
    #[command(flatten)]
    pub log: LogArgs,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Logging: on stderr.
#[derive(Debug, Clone, Default, Args, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct LogArgs {
    /// How much to log to stderr: error, warn, info, debug, trace, or a filter such as headwater_scheduler=debug
    /// [default: info for servers, warn otherwise]
    #[arg(long, global = true, env = "HEADWATER_LOG", value_name = "LEVEL", help_heading = "Logging")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log: Option<String>,
    /// Form of a log line [default: text]
    #[arg(long, global = true, env = "HEADWATER_LOG_FORMAT", value_name = "FORMAT", help_heading = "Logging")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log_format: Option<LogFormat>,
}

/// Form of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people
    Text,
    /// One JSON object a line
    Json,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the whole pipeline in this process: broker, cluster, users, SQL
    #[cfg(feature = "standalone")]
    Demo(DemoArgs),
    /// Run a scheduler and executors in one process, for a laptop
    #[cfg(feature = "standalone")]
    Standalone(StandaloneArgs),
    /// Run a scheduler: it decides what the executors do, and keeps every query going
    #[cfg(feature = "standalone")]
    Scheduler(SchedulerArgs),
    /// Run an executor: it does the work that a scheduler hands out
    #[cfg(feature = "standalone")]
    Executor(ExecutorArgs),
    /// Start the queries of a .sql file and follow them, or run a .py script of PySpark
    Submit(SubmitArgs),
    /// Run SQL on the cluster; without a text, a prompt
    Sql(SqlArgs),
    /// List, watch, stop, restart and delete streaming queries
    Query(QueryArgs),
    /// Fetch users from an API, stage them in PostgreSQL, publish them to Kafka
    Ingest(IngestArgs),
    /// Ask a scheduler or an executor whether it is well: 0 yes, 1 no
    Health(HealthArgs),
    /// List, describe, create, delete, fill and read Kafka topics
    #[cfg(feature = "standalone")]
    Topic(TopicArgs),
    /// Measure throughput and latency on this machine
    #[cfg(feature = "standalone")]
    Bench(BenchArgs),
}

/// Which scheduler.
#[derive(Debug, Clone, Args)]
pub struct ClientArgs {
    /// Scheduler to talk to; of several, by comma, the one that leads
    #[arg(long, env = "HEADWATER_SCHEDULER", value_name = "HOST:PORT", default_value = DEFAULT_SCHEDULER)]
    pub scheduler: String,
}

/// `headwater health`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  headwater health                                         the scheduler on this machine
  headwater health --http 10.0.0.7:4041 || echo down

For health checks of containers, which need no curl then.")]
pub struct HealthArgs {
    /// HTTP port of a scheduler or an executor
    #[arg(long, env = "HEADWATER_HTTP", value_name = "HOST:PORT", default_value = "127.0.0.1:4040")]
    pub http: String,
    /// Seconds to wait for the answer
    #[arg(long, env = "HEADWATER_HEALTH_TIMEOUT", value_name = "SECONDS", default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..))]
    pub timeout: u64,
}

/// `headwater submit`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  headwater submit users.sql --set kafka=localhost:9092 --set cassandra=localhost:9042
  headwater submit users.sql --trigger available-now       until everything there is has been read
  id=$(headwater submit users.sql --detach | cut -f1)      start, and do not watch
  headwater submit spark_stream.py -- --topic users        a script of PySpark, as it is

Prints `ID<tab>NAME` of each query. ctrl-C stops watching; the query goes on. A script needs a Python with
PySpark (pip install 'pyspark[connect]'); ctrl-C goes to the script, and its exit code is the command's.")]
pub struct SubmitArgs {
    /// The .sql file, or a .py script of PySpark; `-` is SQL from stdin
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// Arguments of the script
    #[arg(last = true, value_name = "ARGS")]
    pub args: Vec<String>,
    /// Python that runs the script
    #[arg(long, env = "HEADWATER_PYTHON", value_name = "PROGRAM", default_value = "python3", help_heading = "Python")]
    pub python: String,
    /// Modules that the script imports: .py, .zip or .egg files, by comma
    #[arg(long, env = "HEADWATER_PY_FILES", value_name = "FILES", value_delimiter = ',', help_heading = "Python")]
    pub py_files: Vec<PathBuf>,
    /// Where Spark Connect is served [default: what the scheduler says, on its host]
    #[arg(long, env = "HEADWATER_CONNECT", value_name = "HOST:PORT", help_heading = "Python")]
    pub connect: Option<String>,
    /// Name of the query, if the file has one flow (CREATE FLOW names it otherwise); of the first query to which a
    /// script gives none
    #[arg(long, env = "HEADWATER_NAME")]
    pub name: Option<String>,
    /// When batches run: default (as soon as there is something new), an interval such as "5 seconds", available-now,
    /// once, real-time
    #[arg(long, env = "HEADWATER_TRIGGER", default_value = "default", value_parser = trigger)]
    pub trigger: String,
    /// Where the query's progress is kept [default: a folder of its own in the scheduler's state directory]
    #[arg(long, env = "HEADWATER_CHECKPOINT", value_name = "URL")]
    pub checkpoint: Option<String>,
    /// Configuration of the session, as Spark's --conf
    #[arg(long, env = "HEADWATER_CONF", hide_env_values = true, value_name = "KEY=VALUE", value_delimiter = '\n', value_parser = pair)]
    pub conf: Vec<(String, String)>,
    /// Fills ${NAME} in the file; $${NAME} stands for the text ${NAME}
    #[arg(long, env = "HEADWATER_SET", hide_env_values = true, value_name = "NAME=VALUE", value_delimiter = '\n', value_parser = pair)]
    pub set: Vec<(String, String)>,
    /// Print the ids and return; the queries go on. A script ends where it would wait for one
    #[arg(long, env = "HEADWATER_DETACH", value_parser = BoolishValueParser::new(), conflicts_with = "stop_on_exit")]
    pub detach: bool,
    /// On ctrl-C stop the queries too; those of a script when it ends
    #[arg(long, env = "HEADWATER_STOP_ON_EXIT", value_parser = BoolishValueParser::new())]
    pub stop_on_exit: bool,
    /// Print JSON, one object a line: the queries, then their progress reports
    #[arg(long, env = "HEADWATER_JSON", value_parser = BoolishValueParser::new())]
    pub json: bool,
    /// Which scheduler.
    #[command(flatten)]
    pub client: ClientArgs,
}

/// `headwater sql`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  headwater sql                                            a prompt: tab completes, \\q leaves
  headwater sql \"SELECT count(*) FROM created_users\"
  headwater sql --format json \"SELECT * FROM created_users LIMIT 10\" | jq .
  headwater sql < report.sql")]
pub struct SqlArgs {
    /// One or more statements, separated by `;`
    #[arg(value_name = "TEXT", conflicts_with = "file")]
    pub text: Option<String>,
    /// Read the statements from a file; `-` is stdin
    #[arg(short, long, value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// Form of the result
    #[arg(long, env = "HEADWATER_FORMAT", value_enum, default_value_t = Format::Table)]
    pub format: Format,
    /// Configuration of the session, as Spark's --conf
    #[arg(long, env = "HEADWATER_CONF", hide_env_values = true, value_name = "KEY=VALUE", value_delimiter = '\n', value_parser = pair)]
    pub conf: Vec<(String, String)>,
    /// Fills ${NAME} in the statements; $${NAME} stands for the text ${NAME}
    #[arg(long, env = "HEADWATER_SET", hide_env_values = true, value_name = "NAME=VALUE", value_delimiter = '\n', value_parser = pair)]
    pub set: Vec<(String, String)>,
    /// Which scheduler.
    #[command(flatten)]
    pub client: ClientArgs,
}

/// Form of a result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people
    Table,
    /// An array of objects
    Json,
    /// With a header line
    Csv,
}

/// `headwater query`.
#[derive(Debug, Args)]
#[command(after_help = "\
ID is a query's id, the beginning of one if no other begins so, or its name.

Examples:
  headwater query list
  headwater query progress users --follow
  headwater query stop users && headwater query restart users")]
pub struct QueryArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: QueryCommand,
    /// Print JSON
    #[arg(long, global = true, env = "HEADWATER_JSON", value_parser = BoolishValueParser::new())]
    pub json: bool,
    /// Scheduler to talk to; of several, by comma, the one that leads
    #[arg(long, global = true, env = "HEADWATER_SCHEDULER", value_name = "HOST:PORT", default_value = DEFAULT_SCHEDULER)]
    pub scheduler: String,
}

/// What to do with queries.
#[derive(Debug, Subcommand)]
pub enum QueryCommand {
    /// All queries: state, last batch, rates, lag
    List,
    /// One query: the same, and its checkpoint, trigger and last message
    Status {
        /// Id, beginning of an id, or name
        id: String,
    },
    /// Recent batches of a query
    Progress {
        /// Id, beginning of an id, or name
        id: String,
        /// Go on with each new batch until the query ends; with --json one object a line
        #[arg(long, short, env = "HEADWATER_FOLLOW", value_parser = BoolishValueParser::new())]
        follow: bool,
    },
    /// Stop a query; its checkpoint stays, restart goes on from there
    Stop {
        /// Id, beginning of an id, or name
        id: String,
    },
    /// Start a query again, exactly where it was; one that runs is stopped first, and planned anew
    Restart {
        /// Id, beginning of an id, or name
        id: String,
    },
    /// Remove a query that is not running, and its checkpoint
    Delete {
        /// Id, beginning of an id, or name
        id: String,
    },
}

/// `headwater ingest`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  headwater ingest start --users 20000 --topic users_created --postgres postgresql://u:p@localhost/d
  headwater ingest start --source http://localhost:8080/api/ --users 500 --topic t --run-id today --detach
  headwater ingest watch today
  headwater ingest start --publish-only --topic users_created      what is staged and not published yet

A run of the same id is the same run: asked for again it is found, and one that failed or was cancelled goes on.
ctrl-C stops watching; the run goes on.")]
pub struct IngestArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: IngestCommand,
    /// Print JSON; a run that is watched as one object a line
    #[arg(long, global = true, env = "HEADWATER_JSON", value_parser = BoolishValueParser::new())]
    pub json: bool,
    /// Scheduler to talk to; of several, by comma, the one that leads
    #[arg(long, global = true, env = "HEADWATER_SCHEDULER", value_name = "HOST:PORT", default_value = DEFAULT_SCHEDULER)]
    pub scheduler: String,
}

/// What to do with ingest runs.
#[derive(Debug, Subcommand)]
pub enum IngestCommand {
    /// Start a run, or find it, and watch it
    Start(Box<IngestStart>),
    /// Runs, newest first
    List {
        /// How many at most
        #[arg(long, env = "HEADWATER_LIMIT", value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
        limit: u32,
    },
    /// One run: state, counts, offsets
    Status {
        /// Id of the run
        run: String,
    },
    /// Show a run until it has ended
    Watch {
        /// Id of the run
        run: String,
    },
    /// Stop a run; what is staged and published stays, and starting it again goes on
    Cancel {
        /// Id of the run
        run: String,
    },
}

/// `headwater ingest start`.
#[derive(Debug, Args)]
pub struct IngestStart {
    /// randomuser, or the address of a mirror of its API
    #[arg(long, env = "HEADWATER_SOURCE", value_name = "SOURCE", default_value = "randomuser")]
    pub source: String,
    /// Users to fetch
    #[arg(long, env = "HEADWATER_USERS", value_name = "N", value_parser = clap::value_parser!(u64).range(1..), required_unless_present = "publish_only")]
    pub users: Option<u64>,
    /// Topic to publish to; made when there is none
    #[arg(long, env = "HEADWATER_TOPIC")]
    pub topic: String,
    /// Database, as postgresql://USER:PASSWORD@HOST:PORT/DATABASE [default: the scheduler's --postgres]
    #[arg(long, env = "HEADWATER_POSTGRES", hide_env_values = true, value_name = "URL")]
    pub postgres: Option<Secret>,
    /// Kafka brokers, by comma
    #[arg(long, env = "HEADWATER_KAFKA", value_name = "HOSTS", default_value = "localhost:9092")]
    pub kafka: String,
    /// The same seed makes the same users [default: made up, and kept with the run]
    #[arg(long, env = "HEADWATER_SEED", value_name = "SEED")]
    pub seed: Option<String>,
    /// Nationalities, by comma, such as DE,FR [default: all]
    #[arg(long, env = "HEADWATER_NAT", value_name = "CODES")]
    pub nat: Option<String>,
    /// Users of a request, 1 to 5000 [default: 1000]
    #[arg(long, env = "HEADWATER_PAGE_SIZE", value_name = "N", value_parser = clap::value_parser!(u32).range(1..=5000))]
    pub page_size: Option<u32>,
    /// Form of a record's value
    #[arg(long, env = "HEADWATER_INGEST_FORMAT", value_enum, default_value_t = RecordFormat::Json)]
    pub format: RecordFormat,
    /// Schema registry, for avro and protobuf
    #[arg(long, env = "HEADWATER_SCHEMA_REGISTRY", hide_env_values = true, value_name = "URL")]
    pub schema_registry: Option<String>,
    /// Fetch nothing; publish what is staged and not published yet
    #[arg(long, env = "HEADWATER_PUBLISH_ONLY", value_parser = BoolishValueParser::new(), conflicts_with = "users")]
    pub publish_only: bool,
    /// Keep each user's reply in staging, without password, salt and digests
    #[arg(long, env = "HEADWATER_KEEP_RAW", value_parser = BoolishValueParser::new())]
    pub keep_raw: bool,
    /// Name of the run; the same name and request find it again [default: made up]
    #[arg(long, env = "HEADWATER_RUN_ID", value_name = "ID")]
    pub run_id: Option<String>,
    /// Further options: kafka.*, schema.registry.*, headwater.retryTimeout, headwater.usersPerWindow,
    /// headwater.topicPartitions, headwater.protobuf.message
    #[arg(long, env = "HEADWATER_OPTION", hide_env_values = true, value_name = "KEY=VALUE", value_delimiter = '\n', value_parser = pair)]
    pub option: Vec<(String, String)>,
    /// Print the run's id and return; the run goes on
    #[arg(long, env = "HEADWATER_DETACH", value_parser = BoolishValueParser::new())]
    pub detach: bool,
}

/// Form of a record's value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum RecordFormat {
    /// A JSON object
    Json,
    /// Avro, by a schema registry
    Avro,
    /// Protobuf, by a schema registry
    Protobuf,
}

impl fmt::Display for RecordFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Json => "json",
            Self::Avro => "avro",
            Self::Protobuf => "protobuf",
        })
    }
}

fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.trim().is_empty() => Ok((key.trim().to_string(), value.to_string())),
        _ => Err("there is no `=` behind a name".into()),
    }
}

/// Checks the form alone: which units there are is the scheduler's to say.
fn trigger(text: &str) -> Result<String, String> {
    let text = text.trim();
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let interval = digits > 0 && text[digits..].trim().chars().all(|c| c.is_ascii_alphanumeric() || c == ' ');
    if matches!(text, "default" | "available-now" | "once" | "real-time") || interval && text.len() > digits {
        Ok(text.to_string())
    } else {
        Err("give default, available-now, once, real-time or an interval such as \"5 seconds\"".into())
    }
}

#[cfg(feature = "standalone")]
pub use standalone::*;

/// Commands that need the scheduler's and the executor's crates.
#[cfg(feature = "standalone")]
mod standalone {
    use super::*;
    use std::net::IpAddr;

    /// `headwater scheduler`.
    #[derive(Debug, Args)]
    #[command(after_help = "\
Examples:
  headwater scheduler --bind 0.0.0.0 --state-dir s3://bucket/headwater
  headwater scheduler --ha state-dir --state-dir s3://bucket/headwater      on two machines: one leads
  headwater scheduler --config headwater.toml

A key of the file is a flag without its dashes: `state-dir = \"/var/lib/headwater\"`. Flags stand above environment
variables, these above the file. ctrl-C or SIGTERM lets running batches end; a second one does not wait.")]
    pub struct SchedulerArgs {
        /// Read settings from a TOML file
        #[arg(long, env = "HEADWATER_CONFIG", value_name = "FILE")]
        pub config: Option<PathBuf>,
        /// Settings.
        #[command(flatten)]
        pub flags: SchedulerProcessFlags,
        /// Print the bound addresses to stdout as one JSON object, when ready
        #[arg(long, env = "HEADWATER_JSON", value_parser = BoolishValueParser::new())]
        pub json: bool,
    }

    /// Settings of a scheduler in a process of its own, where given.
    #[derive(Debug, Clone, Default, Args, serde::Serialize)]
    #[serde(rename_all = "kebab-case")]
    pub struct SchedulerProcessFlags {
        /// Those of every scheduler.
        #[command(flatten)]
        #[serde(flatten)]
        pub scheduler: SchedulerFlags,
        /// Run as one of several schedulers of the state directory, which find out who leads by state-dir (heartbeats
        /// there) or zookeeper://HOST:2181/PATH (several hosts by comma); all alike. Others stand by and take over
        /// within 10 s [default: there is one scheduler]
        #[arg(long, env = "HEADWATER_HA", value_name = "MODE")]
        #[serde(skip_serializing_if = "Option::is_none")]
        pub ha: Option<String>,
        /// Host under which clients and executors reach this scheduler, for standbys to name [default: --bind, or the
        /// machine's name]
        #[arg(long, env = "HEADWATER_ADVERTISE", value_name = "HOST")]
        #[serde(skip_serializing_if = "Option::is_none")]
        pub advertise: Option<String>,
    }

    /// Settings of a scheduler, where given.
    #[derive(Debug, Clone, Default, Args, serde::Serialize)]
    #[serde(rename_all = "kebab-case")]
    pub struct SchedulerFlags {
        /// Where catalog and checkpoints are kept: a folder or an object store's URL [default: ./headwater-state]
        #[arg(long, env = "HEADWATER_STATE_DIR", value_name = "URL")]
        #[serde(skip_serializing_if = "Option::is_none")]
        pub state_dir: Option<String>,
        /// Address to listen on [default: 127.0.0.1]
        #[arg(long, env = "HEADWATER_BIND", value_name = "ADDR")]
        #[serde(skip_serializing_if = "Option::is_none")]
        pub bind: Option<IpAddr>,
        /// Port for executors and clients; 0 picks one [default: 50050]
        #[arg(long, env = "HEADWATER_GRPC_PORT", value_name = "PORT")]
        #[serde(skip_serializing_if = "Option::is_none")]
        pub grpc_port: Option<u16>,
        /// Port for Spark Connect; 0 picks one [default: 15002]
        #[arg(long, env = "HEADWATER_CONNECT_PORT", value_name = "PORT")]
        #[serde(skip_serializing_if = "Option::is_none")]
        pub connect_port: Option<u16>,
        /// Token that Spark Connect clients must present (sc://HOST:PORT/;token=…); better in the environment or the
        /// file, since others see a command line [default: none is asked for]
        #[arg(long, env = "HEADWATER_CONNECT_TOKEN", value_name = "TOKEN", hide_env_values = true)]
        #[serde(skip_serializing_if = "Option::is_none")]
        pub connect_token: Option<Secret>,
        /// End a Spark session that nothing was asked of for this long [default: 1 hour]
        #[arg(long, env = "HEADWATER_CONNECT_SESSION_TIMEOUT", value_name = "INTERVAL")]
        #[serde(skip_serializing_if = "Option::is_none")]
        pub connect_session_timeout: Option<String>,
        /// Cancel what a Spark client runs when the client is gone for this long [default: 5 minutes]
        #[arg(long, env = "HEADWATER_CONNECT_DETACHED_TIMEOUT", value_name = "INTERVAL")]
        #[serde(skip_serializing_if = "Option::is_none")]
        pub connect_detached_timeout: Option<String>,
        /// Port for /healthz, /metrics and the API; 0 picks one [default: 4040]
        #[arg(long, env = "HEADWATER_HTTP_PORT", value_name = "PORT")]
        #[serde(skip_serializing_if = "Option::is_none")]
        pub http_port: Option<u16>,
        /// PostgreSQL for ingest runs that name none, as postgresql://USER:PASSWORD@HOST:PORT/DATABASE
        #[arg(long, env = "HEADWATER_POSTGRES", hide_env_values = true, value_name = "URL")]
        #[serde(skip_serializing_if = "Option::is_none")]
        pub postgres: Option<Secret>,
        /// Folder of the files that options of tables name as ${secret:NAME} [default: /run/secrets]
        #[arg(long, env = "HEADWATER_SECRETS_DIR", value_name = "DIR")]
        #[serde(skip_serializing_if = "Option::is_none")]
        pub secrets_dir: Option<PathBuf>,
        /// When told to end, wait this long for what runs [default: 1 minute]
        #[arg(long, env = "HEADWATER_DRAIN_TIMEOUT", value_name = "INTERVAL")]
        #[serde(skip_serializing_if = "Option::is_none")]
        pub drain_timeout: Option<String>,
        /// Send traces to this OpenTelemetry collector, by OTLP over HTTP, such as http://localhost:4318 [default: none]
        #[arg(long, env = "HEADWATER_OTLP_ENDPOINT", value_name = "URL")]
        #[serde(skip_serializing_if = "Option::is_none")]
        pub otlp_endpoint: Option<String>,
    }

    /// `headwater standalone`.
    #[derive(Debug, Args)]
    #[command(after_help = "\
Examples:
  headwater standalone
  headwater standalone --executors 4 --task-slots 2 --state-dir /tmp/state

ctrl-C or SIGTERM lets running batches end; a second one does not wait.")]
    pub struct StandaloneArgs {
        /// Read settings from a TOML file
        #[arg(long, env = "HEADWATER_CONFIG", value_name = "FILE")]
        pub config: Option<PathBuf>,
        /// Settings.
        #[command(flatten)]
        pub flags: StandaloneFlags,
        /// Print the bound addresses to stdout as one JSON object, when ready
        #[arg(long, env = "HEADWATER_JSON", value_parser = BoolishValueParser::new())]
        pub json: bool,
    }

    /// Settings of scheduler and executors in one process, where given.
    #[derive(Debug, Clone, Default, Args, serde::Serialize)]
    #[serde(rename_all = "kebab-case")]
    pub struct StandaloneFlags {
        /// Settings of the scheduler.
        #[command(flatten)]
        #[serde(flatten)]
        pub scheduler: SchedulerFlags,
        /// Executors to run [default: 2]
        #[arg(long, env = "HEADWATER_EXECUTORS", value_name = "N")]
        #[serde(skip_serializing_if = "Option::is_none")]
        pub executors: Option<usize>,
        /// Tasks that each executor runs at once [default: the machine's cores]
        #[arg(long, env = "HEADWATER_TASK_SLOTS", value_name = "N")]
        #[serde(skip_serializing_if = "Option::is_none")]
        pub task_slots: Option<usize>,
        /// Folder for what executors keep between stages [default: a temporary one]
        #[arg(long, env = "HEADWATER_WORK_DIR", value_name = "DIR")]
        #[serde(skip_serializing_if = "Option::is_none")]
        pub work_dir: Option<PathBuf>,
        /// Memory that operators of an executor may hold, such as 2g, shared evenly by its slots; beyond it sorts and
        /// aggregations spill to --work-dir; none is no limit [default: 60% of the machine's or the container's]
        #[arg(long, env = "HEADWATER_MEMORY_LIMIT", value_name = "SIZE")]
        #[serde(skip_serializing_if = "Option::is_none")]
        pub memory_limit: Option<String>,
    }

    /// `headwater executor`.
    #[derive(Debug, Args)]
    #[command(after_help = "\
Examples:
  headwater executor --scheduler host:50050
  headwater executor --scheduler host:50050 --bind 0.0.0.0 --advertise 10.0.0.7 --task-slots 8

ctrl-C or SIGTERM lets running tasks end; a second one does not wait.")]
    pub struct ExecutorArgs {
        /// Read settings from a TOML file
        #[arg(long, env = "HEADWATER_CONFIG", value_name = "FILE")]
        pub config: Option<PathBuf>,
        /// Settings.
        #[command(flatten)]
        pub flags: ExecutorFlags,
        /// Print the executor's id to stdout as one JSON object, when ready
        #[arg(long, env = "HEADWATER_JSON", value_parser = BoolishValueParser::new())]
        pub json: bool,
    }

    /// Settings of an executor, where given.
    #[derive(Debug, Clone, Default, Args, serde::Serialize)]
    #[serde(rename_all = "kebab-case")]
    pub struct ExecutorFlags {
        /// Scheduler to work for; of several, by comma, the one that leads [default: 127.0.0.1:50050]
        #[arg(long, env = "HEADWATER_SCHEDULER", value_name = "HOST:PORT")]
        #[serde(skip_serializing_if = "Option::is_none")]
        pub scheduler: Option<String>,
        /// Tasks to run at once [default: the machine's cores]
        #[arg(long, env = "HEADWATER_TASK_SLOTS", value_name = "N")]
        #[serde(skip_serializing_if = "Option::is_none")]
        pub task_slots: Option<usize>,
        /// Folder for what is kept between stages [default: a temporary one]
        #[arg(long, env = "HEADWATER_WORK_DIR", value_name = "DIR")]
        #[serde(skip_serializing_if = "Option::is_none")]
        pub work_dir: Option<PathBuf>,
        /// Address to listen on [default: 127.0.0.1]
        #[arg(long, env = "HEADWATER_BIND", value_name = "ADDR")]
        #[serde(skip_serializing_if = "Option::is_none")]
        pub bind: Option<IpAddr>,
        /// Host name or address under which scheduler and other executors reach this one [default: --bind, or the
        /// address that leads to the scheduler when bound to all]
        #[arg(long, env = "HEADWATER_ADVERTISE", value_name = "HOST")]
        #[serde(skip_serializing_if = "Option::is_none")]
        pub advertise: Option<String>,
        /// Port for /healthz and /metrics; 0 picks one [default: none]
        #[arg(long, env = "HEADWATER_HTTP_PORT", value_name = "PORT")]
        #[serde(skip_serializing_if = "Option::is_none")]
        pub http_port: Option<u16>,
        /// Memory that operators of an executor may hold, such as 2g, shared evenly by its slots; beyond it sorts and
        /// aggregations spill to --work-dir; none is no limit [default: 60% of the machine's or the container's]
        #[arg(long, env = "HEADWATER_MEMORY_LIMIT", value_name = "SIZE")]
        #[serde(skip_serializing_if = "Option::is_none")]
        pub memory_limit: Option<String>,
        /// When told to end, wait this long for what runs [default: 1 minute]
        #[arg(long, env = "HEADWATER_DRAIN_TIMEOUT", value_name = "INTERVAL")]
        #[serde(skip_serializing_if = "Option::is_none")]
        pub drain_timeout: Option<String>,
        /// Send traces to this OpenTelemetry collector, by OTLP over HTTP, such as http://localhost:4318 [default: none]
        #[arg(long, env = "HEADWATER_OTLP_ENDPOINT", value_name = "URL")]
        #[serde(skip_serializing_if = "Option::is_none")]
        pub otlp_endpoint: Option<String>,
    }

    /// `headwater demo`.
    #[derive(Debug, Args)]
    #[command(after_help = "\
Examples:
  headwater demo                                           nothing needed but this binary
  headwater demo --rows 1000000 --partitions 8
  headwater demo --kafka localhost:9092 --cassandra localhost:9042")]
    pub struct DemoArgs {
        /// Users to make
        #[arg(long, env = "HEADWATER_ROWS", value_name = "N", default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(1..))]
        pub rows: u64,
        /// Partitions of the topic
        #[arg(long, env = "HEADWATER_PARTITIONS", value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(i32).range(1..=1000))]
        pub partitions: i32,
        /// Executors in this process
        #[arg(long, env = "HEADWATER_EXECUTORS", value_name = "N", default_value_t = 2, value_parser = positive)]
        pub executors: usize,
        /// Users a second [default: as fast as they are read]
        #[arg(long, env = "HEADWATER_RATE", value_name = "R", value_parser = clap::value_parser!(u64).range(1..))]
        pub rate: Option<u64>,
        /// The same seed makes the same users
        #[arg(long, env = "HEADWATER_SEED", value_name = "S", default_value_t = 42)]
        pub seed: u64,
        /// Keep tables and checkpoints when done, and say where
        #[arg(long, env = "HEADWATER_KEEP", value_parser = BoolishValueParser::new())]
        pub keep: bool,
        /// Kafka to use in place of the broker in this process
        #[arg(long, env = "HEADWATER_KAFKA", value_name = "HOSTS")]
        pub kafka: Option<String>,
        /// Cassandra to write to in place of a Parquet table
        #[arg(long, env = "HEADWATER_CASSANDRA", value_name = "HOSTS")]
        pub cassandra: Option<String>,
        /// Print the outcome as one JSON object
        #[arg(long, env = "HEADWATER_JSON", value_parser = BoolishValueParser::new())]
        pub json: bool,
    }

    /// `headwater topic`.
    #[derive(Debug, Args)]
    #[command(after_help = "\
Examples:
  headwater topic create users_created --partitions 4
  headwater topic produce users_created users.jsonl
  headwater topic tail users_created --from beginning -n 10")]
    pub struct TopicArgs {
        /// What to do.
        #[command(subcommand)]
        pub command: TopicCommand,
        /// Kafka brokers, by comma
        #[arg(long, global = true, env = "HEADWATER_KAFKA", value_name = "HOSTS", default_value = "localhost:9092")]
        pub kafka: String,
        /// Print JSON
        #[arg(long, global = true, env = "HEADWATER_JSON", value_parser = BoolishValueParser::new())]
        pub json: bool,
    }

    /// What to do with topics.
    #[derive(Debug, Subcommand)]
    pub enum TopicCommand {
        /// All topics
        List,
        /// Partitions, leaders and offsets of a topic
        Describe {
            /// Topic
            topic: String,
        },
        /// Make a topic
        Create {
            /// Topic
            topic: String,
            /// Partitions
            #[arg(long, env = "HEADWATER_PARTITIONS", value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(i32).range(1..))]
            partitions: i32,
            /// Copies of each partition
            #[arg(long, env = "HEADWATER_REPLICATION", value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(i32).range(1..))]
            replication: i32,
            /// Leave a topic that is there as it is
            #[arg(long, env = "HEADWATER_IF_NOT_EXISTS", value_parser = BoolishValueParser::new())]
            if_not_exists: bool,
        },
        /// Remove a topic and its records
        Delete {
            /// Topic
            topic: String,
        },
        /// Write each line of a file, or of stdin, as one record; empty lines are none
        Produce {
            /// Topic
            topic: String,
            /// File; stdin without
            file: Option<PathBuf>,
            /// What stands between key and value in a line; without, a record has no key
            #[arg(long, env = "HEADWATER_KEY_SEPARATOR", value_name = "TEXT")]
            key_separator: Option<String>,
        },
        /// Print a topic's values, one a line
        Tail {
            /// Topic
            topic: String,
            /// Where to begin: beginning, end, or how many records back in each partition
            #[arg(long, env = "HEADWATER_FROM", value_name = "WHERE", default_value = "10", value_parser = from)]
            from: From,
            /// Go on with new records until ctrl-C
            #[arg(long, short, env = "HEADWATER_FOLLOW", value_parser = BoolishValueParser::new())]
            follow: bool,
            /// End after N records
            #[arg(long, short = 'n', env = "HEADWATER_COUNT", value_name = "N")]
            count: Option<u64>,
        },
    }

    /// Where `topic tail` begins.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub enum From {
        /// At the oldest record.
        Beginning,
        /// After the newest record.
        End,
        /// So many records before the end of each partition.
        Back(u64),
    }

    /// `headwater bench`.
    #[derive(Debug, Args)]
    #[command(
        args_conflicts_with_subcommands = true,
        after_help = "\
Examples:
  headwater bench --kafka localhost:9092                   1,000,000 users, Kafka to from_json to noop
  headwater bench --kafka localhost:9092 --sink cassandra --cassandra localhost:9042
  headwater bench latency --kafka localhost:9092 --sink kafka
  headwater bench overhead                                 what a batch costs that has nothing to do
  headwater bench cluster --kafka localhost:9092           start-up and memory of processes of their own

Each run starts a cluster in this process, but `cluster`, which starts processes. The topic is made and filled if it
does not hold enough users yet."
    )]
    pub struct BenchArgs {
        /// What to measure, if not throughput.
        #[command(subcommand)]
        pub command: Option<BenchCommand>,
        /// What to run.
        #[command(flatten)]
        pub run: BenchRun,
    }

    /// What to measure.
    #[derive(Debug, Subcommand)]
    pub enum BenchCommand {
        /// Fill the topic, and say how fast
        Produce(BenchRun),
        /// Time from producing a record to seeing it in the sink, at a steady rate
        Latency(LatencyArgs),
        /// What a micro-batch costs whose work is nothing: one after the other, without any outside system
        Overhead(OverheadArgs),
        /// Scheduler and executors in processes of their own: start to first committed batch, memory at rest and under
        /// load
        Cluster(BenchRun),
    }

    /// What to run.
    #[derive(Debug, Clone, Args)]
    pub struct BenchRun {
        /// Kafka brokers, by comma
        #[arg(long, env = "HEADWATER_KAFKA", value_name = "HOSTS", default_value = "localhost:9092")]
        pub kafka: String,
        /// Cassandra, for --sink cassandra
        #[arg(long, env = "HEADWATER_CASSANDRA", value_name = "HOSTS", default_value = "localhost:9042")]
        pub cassandra: String,
        /// Topic that is read; made and filled when it is not there [default: one named after rows and partitions]
        #[arg(long, env = "HEADWATER_TOPIC")]
        pub topic: Option<String>,
        /// Users to read
        #[arg(long, env = "HEADWATER_ROWS", value_name = "N", default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(1..))]
        pub rows: u64,
        /// Partitions of the topic
        #[arg(long, env = "HEADWATER_PARTITIONS", value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(i32).range(1..=1000))]
        pub partitions: i32,
        /// Where the rows go
        #[arg(long, env = "HEADWATER_SINK", value_enum, default_value_t = Sink::Noop)]
        pub sink: Sink,
        /// Executors in this process
        #[arg(long, env = "HEADWATER_EXECUTORS", value_name = "N", default_value_t = 1, value_parser = positive)]
        pub executors: usize,
        /// Tasks that each executor runs at once [default: the topic's partitions]
        #[arg(long, env = "HEADWATER_TASK_SLOTS", value_name = "N", value_parser = positive)]
        pub task_slots: Option<usize>,
        /// Runs one after the other in the same process: the first is cold, the others warm
        #[arg(long, env = "HEADWATER_RUNS", value_name = "N", default_value_t = 2, value_parser = positive)]
        pub runs: usize,
        /// Records a batch takes at most
        #[arg(long, env = "HEADWATER_BATCH_ROWS", value_name = "N", default_value_t = 200_000)]
        pub batch_rows: u64,
        /// The same seed makes the same users
        #[arg(long, env = "HEADWATER_SEED", value_name = "S", default_value_t = 42)]
        pub seed: u64,
        /// Print the outcome as one JSON object
        #[arg(long, env = "HEADWATER_JSON", value_parser = BoolishValueParser::new())]
        pub json: bool,
    }

    /// `headwater bench latency`.
    #[derive(Debug, Clone, Args)]
    pub struct LatencyArgs {
        /// Kafka brokers, by comma
        #[arg(long, env = "HEADWATER_KAFKA", value_name = "HOSTS", default_value = "localhost:9092")]
        pub kafka: String,
        /// Cassandra, for --sink cassandra
        #[arg(long, env = "HEADWATER_CASSANDRA", value_name = "HOSTS", default_value = "localhost:9042")]
        pub cassandra: String,
        /// Where the rows go: kafka or cassandra
        #[arg(long, env = "HEADWATER_SINK", value_enum, default_value_t = Sink::Kafka)]
        pub sink: Sink,
        /// Records a second
        #[arg(long, env = "HEADWATER_RATE", value_name = "R", default_value_t = 1000, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
        pub rate: u64,
        /// How long to measure, after a warm-up of a third of it
        #[arg(long, env = "HEADWATER_SECONDS", value_name = "S", default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..))]
        pub seconds: u64,
        /// Partitions of the topics
        #[arg(long, env = "HEADWATER_PARTITIONS", value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(i32).range(1..=1000))]
        pub partitions: i32,
        /// When batches run, as in `headwater submit`
        #[arg(long, env = "HEADWATER_TRIGGER", default_value = "default", value_parser = trigger)]
        pub trigger: String,
        /// Print the outcome as one JSON object
        #[arg(long, env = "HEADWATER_JSON", value_parser = BoolishValueParser::new())]
        pub json: bool,
    }

    /// `headwater bench overhead`.
    #[derive(Debug, Clone, Args)]
    pub struct OverheadArgs {
        /// Batches to measure, after a warm-up of a tenth of them
        #[arg(long, env = "HEADWATER_BATCHES", value_name = "N", default_value_t = 2000, value_parser = clap::value_parser!(u64).range(1..))]
        pub batches: u64,
        /// Partitions of the case that has several
        #[arg(long, env = "HEADWATER_PARTITIONS", value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=1000))]
        pub partitions: u32,
        /// Print the outcome as one JSON object
        #[arg(long, env = "HEADWATER_JSON", value_parser = BoolishValueParser::new())]
        pub json: bool,
    }

    /// Where a benchmark's rows go.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
    pub enum Sink {
        /// Nowhere: reading and parsing alone
        Noop,
        /// An exactly-once table in a temporary folder
        Parquet,
        /// Table spark_streams.bench_users
        Cassandra,
        /// A topic
        Kafka,
    }

    fn positive(text: &str) -> Result<usize, String> {
        match text.parse() {
            Ok(0) | Err(_) => Err("give a number of 1 or more".into()),
            Ok(number) => Ok(number),
        }
    }

    fn from(text: &str) -> Result<From, String> {
        Ok(match text {
            "beginning" | "earliest" => From::Beginning,
            "end" | "latest" => From::End,
            back => From::Back(back.parse().map_err(|_| "give beginning, end or a number of records")?),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    fn parse(line: &[&str]) -> Result<Cli, clap::Error> {
        Cli::try_parse_from([&["headwater"], line].concat())
    }

    #[test]
    fn definition_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_flag_has_its_variable() {
        fn walk(command: &clap::Command) {
            for arg in command.get_arguments() {
                let positional = arg.get_long().is_none();
                let exempt = matches!(arg.get_long(), Some("help" | "version" | "file"));
                let named = arg.get_env().is_some_and(|name| name.to_string_lossy().starts_with("HEADWATER_"));
                assert!(positional || exempt || named, "{} --{}", command.get_name(), arg.get_id());
            }
            command.get_subcommands().for_each(walk);
        }
        walk(&Cli::command());
    }

    #[test]
    fn lines() {
        fn check(line: &str, good: bool) {
            let words: Vec<_> = line.split(' ').filter(|word| !word.is_empty()).collect();
            assert_eq!(parse(&words).is_ok(), good, "{line:?}: {:?}", parse(&words).err());
        }
        check("", false);
        check("nonsense", false);
        check("ingest start", false);
        check("ingest start --users 5 --topic t", true);
        check("ingest start --publish-only --topic t --postgres postgresql://h/d --kafka a:1", true);
        check("ingest start --publish-only --users 5 --topic t", false);
        check("ingest start --users 0 --topic t", false);
        check("ingest start --users 5 --topic t --page-size 5001", false);
        check(
            "ingest start --users 5 --topic t --format avro --schema-registry http://r --option kafka.acks=all",
            true,
        );
        check("ingest start --users 5 --topic t --format xml", false);
        check("ingest list --json --limit 5", true);
        check("ingest watch r --scheduler h:1", true);
        check("ingest cancel", false);
        check("submit users.sql", true);
        check("submit", false);
        check("submit users.sql --set kafka=a:1,b:2 --set x= --conf spark.sql.shuffle.partitions=2", true);
        check("submit users.sql --set kafka", false);
        check("submit users.sql --set =x", false);
        check("submit users.sql --trigger available-now --name users --checkpoint s3://b/c --json", true);
        check("submit users.sql --trigger 5s", true);
        check("submit users.sql --trigger 5", false);
        check("submit users.sql --trigger sometimes", false);
        check("submit users.sql --detach --stop-on-exit", false);
        check("submit users.py -- a b", true);
        check("submit users.py --python python3.11 --py-files a.py,b.zip --connect host:1 --stop-on-exit", true);
        check("sql SELECT", true);
        check("sql SELECT -f x.sql", false);
        check("sql -f x.sql --format csv", true);
        check("sql --format xml", false);
        check("query list --json --scheduler host:1", true);
        check("query --json list", true);
        check("query status", false);
        check("query progress users --follow", true);
        check("query restart users", true);
        check("query stop", false);
        check("query list --log debug --log-format json", true);
    }

    #[test]
    fn set_keeps_what_follows_the_first_equals_sign() {
        let cli = parse(&["submit", "f.sql", "--set", "url=jdbc:x?a=b"]).expect("good usage");
        let Command::Submit(args) = cli.command else { panic!("not submit") };
        assert_eq!(args.set, [("url".to_string(), "jdbc:x?a=b".to_string())]);
    }

    #[cfg(feature = "standalone")]
    #[test]
    fn lines_of_servers() {
        fn check(line: &str, good: bool) {
            let words: Vec<_> = line.split(' ').collect();
            assert_eq!(parse(&words).is_ok(), good, "{line:?}: {:?}", parse(&words).err());
        }
        check("scheduler --state-dir s3://b/s --bind 0.0.0.0 --grpc-port 0 --connect-port 1 --http-port 2", true);
        check("scheduler --grpc-port 70000", false);
        check("scheduler --bind here", false);
        check("executor --scheduler a:1,b:2 --task-slots 2 --work-dir /tmp --bind ::1 --advertise host", true);
        check("standalone --executors 3 --http-port 0", true);
        check("demo --rows 10 --partitions 2 --executors 1 --rate 5 --seed 1 --keep --json", true);
        check("demo --rows 0", false);
        check("topic create t --partitions 4 --replication 3", true);
        check("topic tail t --from beginning --follow", true);
        check("topic tail t --from 5 -n 3", true);
        check("topic tail t --from middle", false);
        check("topic delete t", true);
        check("topic delete", false);
        check("topic produce t", true);
        check("bench --sink parquet --rows 1000", true);
        check("bench latency --sink kafka --rate 100", true);
        check("bench --sink tape", false);
    }
}
