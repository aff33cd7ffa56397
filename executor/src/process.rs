//! The executor: registers with a scheduler, runs the tasks that Ballista pushes to it, and stays.
//!
//! ```text
//!        connect ──► register ──► serve tasks ──► scheduler gone or forced stop ──┐
//!           ▲                        │ drain                                      │
//!           └────────────────────────┼────────────────────────────────────────────┘
//!                                    ▼
//!                                  ended
//! ```
//!
//! While registered it holds a stream open at the scheduler, so that either side notices the other's death at once.
//! After a lost scheduler it registers again under a new id: the old id is refused until it has expired.

use crate::connectors::files::location::LazyObjectStoreRegistry;
use crate::engine::HeadwaterEngine;
use anyhow::{Context, Result, anyhow};
use arrow_flight::flight_service_server::FlightServiceServer;
use ballista_core::extension::SessionConfigExt;
use ballista_core::serde::protobuf::ExecutorRegistration;
use ballista_core::serde::protobuf::scheduler_grpc_client::SchedulerGrpcClient;
use ballista_core::serde::scheduler::{ExecutorOperatingSystemSpecification, ExecutorSpecification};
use ballista_core::utils::{GrpcServerConfig, create_grpc_client_endpoint, create_grpc_server};
use ballista_core::{BALLISTA_PROTOCOL_VERSION, ConfigProducer, RuntimeProducer};
use ballista_executor::execution_engine::DefaultExecutionEngine;
use ballista_executor::executor::{Executor, TasksDrainedFuture};
use ballista_executor::executor_process::ExecutorProcessConfig;
use ballista_executor::flight_service::BallistaFlightService;
use ballista_executor::health::ExecutorHealth;
use ballista_executor::metrics::{ExecutorMetricCollectionPolicy, LoggingMetricsCollector};
use ballista_executor::runtime_cache::DefaultSessionRuntimeCache;
use ballista_executor::shutdown::ShutdownNotifier;
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion::prelude::SessionConfig;
use headwater_proto::engine::HoldRequest;
use headwater_proto::engine::liveness_service_client::LivenessServiceClient;
use std::net::{IpAddr, TcpListener as StdTcpListener};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tonic::transport::{Channel, Endpoint};
use tracing::{info, warn};

/// Executors reach the scheduler at the address they were given, whatever the scheduler thinks its own is: this name
/// in a callback stands for "the scheduler that you registered with".
pub const SCHEDULER_ALIAS: &str = "headwater-scheduler";

/// Every second: the scheduler learns of a restart of its own from the first heartbeat after it.
const HEARTBEAT: Duration = Duration::from_secs(1);
/// Attempts to reach a scheduler are this far apart at most.
const RECONNECT_MAX: Duration = Duration::from_secs(1);

/// How to run an executor.
#[derive(Debug, Clone)]
pub struct ExecutorOptions {
    /// `host:port` of schedulers, tried in turn.
    pub schedulers: Vec<String>,
    /// Tasks at once.
    pub task_slots: usize,
    /// Folder for shuffle files; a temporary one, removed at the end, when absent.
    pub work_dir: Option<PathBuf>,
    /// Address to listen on.
    pub bind: IpAddr,
    /// Host under which the scheduler and other executors reach this one; `bind` when absent.
    pub advertise: Option<String>,
}

/// A running executor.
pub struct ExecutorHandle {
    stop: watch::Sender<bool>,
    task: JoinHandle<Result<()>>,
    id: watch::Receiver<String>,
}

impl ExecutorHandle {
    /// The id of the current registration.
    pub fn id(&self) -> String {
        self.id.borrow().clone()
    }
    /// Takes no new tasks, waits for the running ones, ends.
    pub async fn drain(self) -> Result<()> {
        // The receiver is gone only when the executor has ended, which is what is wanted.
        let _ = self.stop.send(true);
        self.task.await.context("executor task")?
    }
    /// Returns when the executor has ended by itself, with the reason.
    pub async fn wait_failed(&mut self) -> anyhow::Error {
        match (&mut self.task).await {
            Ok(Ok(())) => anyhow!("executor ended"),
            Ok(Err(e)) => e,
            Err(e) => anyhow!(e),
        }
    }
}

/// Starts an executor; returns once it is registered.
///
/// # Errors
/// No scheduler address, a work directory that cannot be made, an address that cannot be bound. An unreachable
/// scheduler is no error: the executor goes on trying, and says so.
pub async fn start(options: ExecutorOptions) -> Result<ExecutorHandle> {
    if options.schedulers.is_empty() {
        return Err(anyhow!("no scheduler named: give --scheduler HOST:PORT"));
    }
    let (stop, stop_receiver) = watch::channel(false);
    let (id_sender, mut id) = watch::channel(String::new());
    let task = tokio::spawn(run(options, stop_receiver, id_sender));
    let mut handle = ExecutorHandle { stop, task, id: id.clone() };
    tokio::select! {
        registered = id.changed() => match registered {
            Ok(()) => Ok(handle),
            Err(_) => Err(handle.wait_failed().await),
        },
        failure = handle.wait_failed() => Err(failure),
    }
}

async fn run(options: ExecutorOptions, mut stop: watch::Receiver<bool>, id: watch::Sender<String>) -> Result<()> {
    // Kept until the end: its folder is removed when it is dropped.
    let mut temporary = None;
    let work_dir = match &options.work_dir {
        Some(dir) => {
            std::fs::create_dir_all(dir).with_context(|| format!("cannot make work directory {}", dir.display()))?;
            dir.clone()
        }
        None => temporary.insert(tempfile::tempdir().context("cannot make a work directory")?).path().to_path_buf(),
    };
    loop {
        let connected = tokio::select! {
            connected = connect(&options.schedulers) => connected,
            _ = stop.wait_for(|stop| *stop) => return Ok(()),
        };
        let round =
            Registration { options: &options, work_dir: &work_dir, scheduler: connected.0, channel: connected.1 };
        match round.serve(&mut stop, &id).await {
            Ok(Ended::Drained) => return Ok(()),
            Ok(Ended::SchedulerGone) => info!("scheduler gone, registering again"),
            Err(e) => {
                warn!(error = format!("{e:#}"), "registration failed, trying again");
                tokio::time::sleep(RECONNECT_MAX).await;
            }
        }
    }
}

/// The first scheduler that answers, and its address; tries for ever.
async fn connect(schedulers: &[String]) -> (String, Channel) {
    let mut wait = Duration::from_millis(50);
    let mut said = false;
    loop {
        for scheduler in schedulers {
            match create_grpc_client_endpoint(format!("http://{scheduler}"), None) {
                Ok(endpoint) => match endpoint.connect_timeout(Duration::from_secs(3)).connect().await {
                    Ok(channel) => return (scheduler.clone(), channel),
                    Err(e) if !said => {
                        // tonic's own text is "transport error"; why stands below it.
                        let error = anyhow!(e);
                        warn!(scheduler, error = %error.root_cause(), "scheduler not reached, trying on");
                        said = true;
                    }
                    Err(_) => {}
                },
                Err(e) => warn!(scheduler, error = %e, "not an address"),
            }
        }
        tokio::time::sleep(wait).await;
        wait = (wait * 2).min(RECONNECT_MAX);
    }
}

enum Ended {
    Drained,
    SchedulerGone,
}

/// One registration with one scheduler.
struct Registration<'a> {
    options: &'a ExecutorOptions,
    work_dir: &'a PathBuf,
    scheduler: String,
    channel: Channel,
}

impl Registration<'_> {
    async fn serve(self, stop: &mut watch::Receiver<bool>, announced: &watch::Sender<String>) -> Result<Ended> {
        let bind = self.options.bind;
        let id = uuid::Uuid::new_v4().to_string();
        let flight_listener = TcpListener::bind((bind, 0)).await.with_context(|| format!("cannot listen on {bind}"))?;
        let flight_port = flight_listener.local_addr()?.port();
        // Ballista binds this port itself and takes no listener, so a free one is picked and let go just before.
        let grpc_port = StdTcpListener::bind((bind, 0))?.local_addr()?.port();
        let host = self.options.advertise.clone().unwrap_or_else(|| bind.to_string());
        let slots = self.options.task_slots.max(1);

        let registration = ExecutorRegistration {
            id: id.clone(),
            host: Some(host),
            port: u32::from(flight_port),
            grpc_port: u32::from(grpc_port),
            specification: Some(ExecutorSpecification::default().with_vcores(slots as u32).into()),
            os_info: Some(ExecutorOperatingSystemSpecification::default().into()),
            ballista_protocol_version: BALLISTA_PROTOCOL_VERSION,
        };
        let runtime = RuntimeEnvBuilder::new()
            .with_object_store_registry(Arc::new(LazyObjectStoreRegistry::default()))
            .build_arc()
            .context("runtime")?;
        let runtime_producer: RuntimeProducer = Arc::new(move |_| Ok(Arc::clone(&runtime)));
        let config_producer: ConfigProducer = Arc::new(SessionConfig::new_with_ballista);
        let work_dir = self.work_dir.to_string_lossy().into_owned();
        let executor = Arc::new(
            Executor::new(
                registration,
                &work_dir,
                Arc::clone(&runtime_producer),
                config_producer,
                Arc::new(crate::functions::registry::function_registry()),
                Arc::new(LoggingMetricsCollector::default()),
                slots,
                Arc::new(HeadwaterEngine::new(DefaultExecutionEngine::new())),
            )
            .with_session_runtime_cache(Some(Arc::new(DefaultSessionRuntimeCache::new(
                runtime_producer,
                Arc::new(|base, _, _| Ok(base)),
                256,
            )))),
        );

        let callback = Endpoint::from_shared(format!("http://{}", self.scheduler))?;
        let config = Arc::new(ExecutorProcessConfig {
            executor_id: id.clone(),
            bind_host: bind.to_string(),
            port: flight_port,
            grpc_port,
            vcores: slots,
            executor_heartbeat_interval_seconds: HEARTBEAT.as_secs(),
            metric_collection_policy: ExecutorMetricCollectionPolicy::ProcessOnly,
            override_create_grpc_client_endpoint: Some(Arc::new(move |endpoint: Endpoint| {
                let alias = endpoint.uri().host() == Some(SCHEDULER_ALIAS);
                Ok(if alias { callback.clone() } else { endpoint })
            })),
            ..Default::default()
        });

        let mut notifier = ShutdownNotifier::new();
        let (force_stop, mut forced) = tokio::sync::mpsc::channel(1);
        let flight = FlightServiceServer::new(BallistaFlightService::new(work_dir));
        let mut flight_shutdown = notifier.subscribe_for_shutdown();
        let flight_server = tokio::spawn(async move {
            create_grpc_server(&GrpcServerConfig::default())
                .add_service(flight)
                .serve_with_incoming_shutdown(
                    tokio_stream::wrappers::TcpListenerStream::new(flight_listener),
                    flight_shutdown.recv(),
                )
                .await
        });
        let task_server = ballista_executor::executor_server::startup(
            SchedulerGrpcClient::new(self.channel.clone()),
            config,
            Arc::clone(&executor),
            crate::codec::ballista_codec(),
            force_stop,
            &notifier,
            ExecutorHealth::new(),
        )
        .await;
        let task_server = match task_server {
            Ok(server) => server,
            Err(e) => {
                flight_server.abort();
                return Err(anyhow!("{e}").context(format!("cannot register with scheduler {}", self.scheduler)));
            }
        };
        info!(executor_id = id, scheduler = self.scheduler, slots, "registered");
        announced.send_replace(id.clone());

        let ended = tokio::select! {
            // A forced stop: this scheduler takes us for dead. Register afresh.
            _ = forced.recv() => Ended::SchedulerGone,
            () = hold(self.channel.clone(), &id) => Ended::SchedulerGone,
            _ = stop.wait_for(|stop| *stop) => Ended::Drained,
        };
        if matches!(ended, Ended::Drained) {
            self.drain(&executor, &id).await;
        }
        // The receivers may all be gone already.
        let _ = notifier.notify_shutdown.send(());
        drop(notifier.shutdown_complete_tx);
        // Closed when every part has ended: never a message.
        let _ = notifier.shutdown_complete_rx.recv().await;
        for (name, result) in [("task", flatten(task_server.await)), ("flight", flatten(flight_server.await))] {
            if let Err(e) = result {
                warn!(error = %e, "{name} server ended with an error");
            }
        }
        Ok(ended)
    }

    /// Tells the scheduler to send nothing more, then waits for what runs.
    async fn drain(&self, executor: &Arc<Executor>, id: &str) {
        use ballista_core::serde::protobuf::{
            ExecutorStatus, ExecutorStoppedParams, HeartBeatParams, executor_status::Status,
        };
        let mut scheduler = SchedulerGrpcClient::new(self.channel.clone());
        let terminating = HeartBeatParams {
            executor_id: id.to_string(),
            metrics: vec![],
            status: Some(ExecutorStatus { status: Some(Status::Terminating(String::new())) }),
            metadata: Some(executor.metadata.clone()),
        };
        // Again and again: Ballista's own heartbeats say "active" in between. (Its flag for this is one for the whole
        // process, which may hold other executors that go on.)
        let mut every = tokio::time::interval(HEARTBEAT / 10);
        let mut drained = TasksDrainedFuture(Arc::clone(executor));
        loop {
            every.tick().await;
            if let Err(e) = scheduler.heart_beat_from_executor(terminating.clone()).await {
                warn!(error = %e, "scheduler did not hear that this executor drains");
            }
            tokio::select! {
                () = &mut drained => break,
                _ = every.tick() => {}
            }
        }
        let stopped = ExecutorStoppedParams { executor_id: id.to_string(), reason: "drained".into() };
        if let Err(e) = scheduler.executor_stopped(stopped).await {
            warn!(error = %e, "scheduler did not hear that this executor stops");
        }
    }
}

fn flatten<T, E: std::fmt::Display>(joined: Result<Result<T, E>, tokio::task::JoinError>) -> Result<T> {
    joined.map_err(|e| anyhow!(e))?.map_err(|e| anyhow!("{e}"))
}

/// Holds the liveness stream; returns when it has ended, that is when the scheduler has.
async fn hold(channel: Channel, id: &str) {
    let mut client = LivenessServiceClient::new(channel);
    match client.hold(HoldRequest { executor_id: id.to_string() }).await {
        Ok(response) => {
            let mut stream = response.into_inner();
            while let Ok(Some(_)) = stream.message().await {}
        }
        Err(status) => warn!(error = %status, "liveness stream refused"),
    }
}
