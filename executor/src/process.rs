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
//! While registered it holds a stream open at the scheduler, so that either side notices the other's death at once, and
//! that the other hangs within seconds ([`liveness`](crate::liveness)). After a lost scheduler it registers again, with
//! the one that leads by then, under a new id; what ran for the lost one is cancelled.

use crate::connectors::files::location::LazyObjectStoreRegistry;
use crate::engine::HeadwaterEngine;
use crate::liveness::{BEAT, Patience, SCHEDULER_SILENT_MAX};
use crate::metrics::METRICS;
use crate::observed::ObservedEngine;
use crate::{memory, trace, web};
use anyhow::{Context, Result, anyhow};
use arrow_flight::flight_service_server::FlightServiceServer;
use ballista_core::extension::SessionConfigExt;
use ballista_core::serde::protobuf::ExecutorRegistration;
use ballista_core::serde::protobuf::scheduler_grpc_client::SchedulerGrpcClient;
use ballista_core::serde::scheduler::{ExecutorOperatingSystemSpecification, ExecutorSpecification};
use ballista_core::utils::{GrpcServerConfig, create_grpc_server};
use ballista_core::{BALLISTA_PROTOCOL_VERSION, ConfigProducer, RuntimeProducer};
use ballista_executor::execution_engine::DefaultExecutionEngine;
use ballista_executor::executor::{Executor, TasksDrainedFuture};
use ballista_executor::executor_process::ExecutorProcessConfig;
use ballista_executor::flight_service::BallistaFlightService;
use ballista_executor::health::ExecutorHealth;
use ballista_executor::metrics::{ExecutorMetricCollectionPolicy, LoggingMetricsCollector};
use ballista_executor::runtime_cache::DefaultSessionRuntimeCache;
use ballista_executor::shutdown::ShutdownNotifier;
use datafusion::prelude::SessionConfig;
use futures::future::join_all;
use headwater_proto::engine::liveness_service_client::LivenessServiceClient;
use headwater_proto::engine::query_service_client::QueryServiceClient;
use headwater_proto::engine::{EndpointsRequest, HoldRequest};
use std::net::{IpAddr, SocketAddr, TcpListener as StdTcpListener, UdpSocket};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};
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
const RECONNECT_MAX: Duration = Duration::from_millis(500);
/// A scheduler that leads says so within milliseconds; one that hangs should hold nobody up.
const ASK_MAX: Duration = Duration::from_secs(1);
/// What is left of a registration with a scheduler that is gone holds the next one up so long at most.
const GONE_MAX: Duration = Duration::from_millis(500);
/// The same at the end of an executor that has drained: results may be fetched from it meanwhile.
const DRAINED_MAX: Duration = Duration::from_secs(10);
/// A connection whose other end vanished without closing it is given up after at most the sum of both; gRPC's own
/// default is never. The liveness stream notices sooner.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(5);
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(10);
/// An answer to a heartbeat or a status report takes milliseconds. Waiting for ever would hold up those behind it.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(20);
/// The parts of a registration that has ended are waited for so long: what a task left behind may take its time.
const PARTS_END_MAX: Duration = Duration::from_secs(5);
/// A drain waits so long for running tasks, where nobody says.
pub const DRAIN_TIMEOUT: Duration = Duration::from_secs(60);
/// Bound on a message to and from an executor: a batch of rows, a task's plan with all it reads.
pub const MESSAGE_BYTES_MAX: usize = 64 << 20;

/// How to run an executor.
#[derive(Debug, Clone)]
pub struct ExecutorOptions {
    /// `host:port` of schedulers: the one that leads is registered with.
    pub schedulers: Vec<String>,
    /// Tasks at once.
    pub task_slots: usize,
    /// Folder for shuffle and spill files; a temporary one, removed at the end, when absent.
    pub work_dir: Option<PathBuf>,
    /// Address to listen on.
    pub bind: IpAddr,
    /// Host under which the scheduler and other executors reach this one; `bind` when absent.
    pub advertise: Option<String>,
    /// Port of health and metrics; 0 picks one, none serves neither.
    pub http_port: Option<u16>,
    /// Bytes that operators may hold, shared evenly by the slots; as much as there is when absent.
    pub memory_limit: Option<u64>,
    /// A drain waits so long for running tasks; then they are left to other executors.
    pub drain_timeout: Duration,
}

/// A running executor.
pub struct ExecutorHandle {
    stop: watch::Sender<bool>,
    task: JoinHandle<Result<()>>,
    id: watch::Receiver<String>,
    http: Option<web::Server>,
}

impl ExecutorHandle {
    /// The id of the current registration.
    pub fn id(&self) -> String {
        self.id.borrow().clone()
    }
    /// Where HTTP listens, if it does.
    pub fn http_addr(&self) -> Option<SocketAddr> {
        self.http.as_ref().map(web::Server::address)
    }
    /// Takes no new tasks, waits for the running ones, but no longer than its options say, and ends.
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
    let http = match options.http_port {
        Some(port) => Some(web::serve(SocketAddr::new(options.bind, port), id.clone()).await?),
        None => None,
    };
    let task = tokio::spawn(run(options, stop_receiver, id_sender));
    let mut handle = ExecutorHandle { stop, task, id: id.clone(), http };
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
    let _counted = Counted::begin(&options);
    loop {
        let connected = tokio::select! {
            connected = connect(&options.schedulers) => connected,
            _ = stop.wait_for(|stop| *stop) => return Ok(()),
        };
        let round =
            Registration { options: &options, work_dir: &work_dir, scheduler: connected.0, channel: connected.1 };
        let began = Instant::now();
        let ended = round.serve(&mut stop, &id).await;
        id.send_if_modified(|id| !std::mem::take(id).is_empty());
        match ended {
            Ok(Ended::Drained) => return Ok(()),
            Ok(Ended::SchedulerGone) => info!("scheduler gone, registering again"),
            Err(e) => warn!(error = format!("{e:#}"), "registration failed, trying again"),
        }
        // One that answers and then turns the executor away is not asked without a pause.
        tokio::select! {
            () = tokio::time::sleep(RECONNECT_MAX.saturating_sub(began.elapsed())) => {}
            _ = stop.wait_for(|stop| *stop) => return Ok(()),
        }
    }
}

/// What an executor adds to its process, for metrics.
struct Counted {
    slots: i64,
    memory: i64,
}

impl Counted {
    fn begin(options: &ExecutorOptions) -> Self {
        let (slots, memory) = (options.task_slots.max(1) as i64, options.memory_limit.unwrap_or(0) as i64);
        METRICS.task_slots.inc_by(slots);
        METRICS.memory_limit.inc_by(memory);
        Self { slots, memory }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        METRICS.task_slots.dec_by(self.slots);
        METRICS.memory_limit.dec_by(self.memory);
    }
}

fn endpoint(scheduler: &str) -> Result<Endpoint, tonic::transport::Error> {
    Ok(Endpoint::from_shared(format!("http://{scheduler}"))?
        .connect_timeout(Duration::from_secs(3))
        .tcp_nodelay(true)
        .http2_keep_alive_interval(KEEP_ALIVE_INTERVAL)
        .keep_alive_timeout(KEEP_ALIVE_TIMEOUT)
        .keep_alive_while_idle(true))
}

/// The host under which others reach what listens on `bind`: of "any address" the one that leads to the scheduler.
fn reachable_host(bind: IpAddr, scheduler: &str) -> Result<String> {
    let ip = if bind.is_unspecified() {
        // Connecting a datagram socket sends nothing; it makes the system choose a route.
        let route = UdpSocket::bind((bind, 0)).and_then(|socket| {
            socket.connect(scheduler)?;
            socket.local_addr()
        });
        route.with_context(|| format!("no route to {scheduler}: name this executor's address by --advertise"))?.ip()
    } else {
        bind
    };
    Ok(url_host(ip))
}

/// An address as it stands in a URL.
fn url_host(ip: IpAddr) -> String {
    match ip {
        IpAddr::V4(ip) => ip.to_string(),
        IpAddr::V6(ip) => format!("[{ip}]"),
    }
}

/// The scheduler that leads, and its address; tries for ever.
async fn connect(schedulers: &[String]) -> (String, Channel) {
    let mut wait = Duration::from_millis(50);
    let mut said = false;
    loop {
        let answers = join_all(schedulers.iter().map(|scheduler| ask(scheduler))).await;
        let mut leader: Option<(u64, String, Channel)> = None;
        for (scheduler, answer) in schedulers.iter().zip(answers) {
            match answer {
                // Of two that believe to lead the later is right.
                Ok((epoch, channel)) if leader.as_ref().is_none_or(|(best, ..)| epoch > *best) => {
                    leader = Some((epoch, scheduler.clone(), channel));
                }
                Ok(_) => {}
                Err(error) if !said => warn!(scheduler, error, "no scheduler that leads, trying on"),
                Err(_) => {}
            }
        }
        if let Some((_, scheduler, channel)) = leader {
            return (scheduler, channel);
        }
        said = true;
        tokio::time::sleep(wait).await;
        wait = (wait * 2).min(RECONNECT_MAX);
    }
}

/// A connection to a scheduler that leads, and the number of its leadership; else why not.
async fn ask(scheduler: &str) -> Result<(u64, Channel), String> {
    // tonic's own text is "transport error"; why stands below it.
    let cause = |error: tonic::transport::Error| anyhow!(error).root_cause().to_string();
    let asked = async {
        let channel = endpoint(scheduler).map_err(cause)?.connect().await.map_err(cause)?;
        match QueryServiceClient::new(channel.clone()).endpoints(EndpointsRequest {}).await {
            Ok(endpoints) => Ok((endpoints.into_inner().epoch, channel)),
            // Ballista's scheduler without our services, as in tests: it leads, since it registers executors.
            Err(status) if status.code() == tonic::Code::Unimplemented => Ok((0, channel)),
            Err(status) => Err(status.message().to_string()),
        }
    };
    tokio::time::timeout(ASK_MAX, asked).await.unwrap_or_else(|_| Err(format!("no answer within {ASK_MAX:?}")))
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
        // Ballista binds this port itself and takes no listener, so a free one is picked and let go just before. When
        // somebody else takes it in between, registering fails and is tried again with another.
        let grpc_port = StdTcpListener::bind((bind, 0))?.local_addr()?.port();
        let host = match &self.options.advertise {
            Some(host) => host.clone(),
            None => reachable_host(bind, &self.scheduler)?,
        };
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
        let stores = Arc::new(LazyObjectStoreRegistry::default());
        let runtime = memory::runtime(stores, &self.work_dir.join("spill"))
            .with_context(|| format!("cannot make a folder for spill files in {}", self.work_dir.display()))?;
        let runtime_producer: RuntimeProducer = Arc::new(move |_| Ok(Arc::clone(&runtime)));
        let config_producer: ConfigProducer = Arc::new(|| trace::known(SessionConfig::new_with_ballista()));
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
                Arc::new(ObservedEngine(HeadwaterEngine::new(DefaultExecutionEngine::new()))),
            )
            .with_session_runtime_cache(Some(Arc::new(DefaultSessionRuntimeCache::new(
                runtime_producer,
                memory::policy(self.options.memory_limit, slots),
                256,
            )))),
        );

        let callback = endpoint(&self.scheduler)?.timeout(REQUEST_TIMEOUT);
        let config = Arc::new(ExecutorProcessConfig {
            executor_id: id.clone(),
            bind_host: url_host(bind),
            port: flight_port,
            grpc_port,
            vcores: slots,
            executor_heartbeat_interval_seconds: HEARTBEAT.as_secs(),
            metric_collection_policy: ExecutorMetricCollectionPolicy::ProcessOnly,
            grpc_max_decoding_message_size: MESSAGE_BYTES_MAX as u32,
            grpc_max_encoding_message_size: MESSAGE_BYTES_MAX as u32,
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
        // Ballista ends its parts by itself when it cannot reach the scheduler for five heartbeats.
        let mut gave_up = notifier.subscribe_for_shutdown();
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

        let drained = async {
            // The sender gone is a stop as well.
            let _ = stop.wait_for(|stop| *stop).await;
            self.drain(&executor, &id).await;
        };
        // Draining ends early too: what runs for a scheduler that is gone, or that has given this executor up, is of
        // no use to anybody.
        let ended = tokio::select! {
            () = drained => Ended::Drained,
            // A forced stop: this scheduler takes us for dead. Register afresh.
            _ = forced.recv() => Ended::SchedulerGone,
            () = hold(self.channel.clone(), &id) => Ended::SchedulerGone,
            () = gave_up.recv() => Ended::SchedulerGone,
        };
        // The receivers may all be gone already.
        let _ = notifier.notify_shutdown.send(());
        drop(notifier.shutdown_complete_tx);
        let servers = [task_server.abort_handle(), flight_server.abort_handle()];
        let parts = async {
            // Closed when every part has ended: never a message.
            let _ = notifier.shutdown_complete_rx.recv().await;
            for (name, result) in [("task", flatten(task_server.await)), ("flight", flatten(flight_server.await))] {
                if let Err(e) = result {
                    warn!(error = %e, "{name} server ended with an error");
                }
            }
        };
        let patience = match ended {
            Ended::Drained => DRAINED_MAX,
            Ended::SchedulerGone => GONE_MAX,
        };
        // The connections of a scheduler that hangs never close, and what waits for its answer waits long.
        if tokio::time::timeout(patience, parts).await.is_err() {
            info!("parts of the former registration had not ended after {patience:?}, leaving them");
            servers.iter().for_each(tokio::task::AbortHandle::abort);
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
        info!(executor_id = id, running = executor.active_task_count(), "draining: no new tasks");
        let waiting = async {
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
        };
        let timeout = self.options.drain_timeout;
        if tokio::time::timeout(timeout, waiting).await.is_err() {
            let running = executor.active_task_count();
            warn!(executor_id = id, running, ?timeout, "tasks still run; leaving them to other executors");
        }
        let stopped = ExecutorStoppedParams { executor_id: id.to_string(), reason: "drained".into() };
        match tokio::time::timeout(PARTS_END_MAX, scheduler.executor_stopped(stopped)).await {
            Ok(Ok(_)) => {}
            Ok(Err(e)) => warn!(error = %e, "scheduler did not hear that this executor stops"),
            Err(_) => warn!("scheduler did not answer that it heard that this executor stops"),
        }
    }
}

fn flatten<T, E: std::fmt::Display>(joined: Result<Result<T, E>, tokio::task::JoinError>) -> Result<T> {
    joined.map_err(|e| anyhow!(e))?.map_err(|e| anyhow!("{e}"))
}

/// Holds the liveness stream; returns when it has ended, or nothing comes any more: the scheduler is gone.
async fn hold(channel: Channel, id: &str) {
    // Two beats under way are as good as many.
    let (beats, under_way) = tokio::sync::mpsc::channel(2);
    let beat = || HoldRequest { executor_id: id.to_string() };
    // There is room.
    let _ = beats.try_send(beat());
    let mut client = LivenessServiceClient::new(channel);
    let held = client.hold(tokio_stream::wrappers::ReceiverStream::new(under_way));
    let mut stream = match tokio::time::timeout(SCHEDULER_SILENT_MAX, held).await {
        Ok(Ok(response)) => response.into_inner(),
        Ok(Err(status)) => return warn!(error = %status, "liveness stream refused"),
        Err(_) => return warn!("liveness stream not answered"),
    };
    let mut patience = Patience::new(SCHEDULER_SILENT_MAX, Instant::now());
    let mut looks = tokio::time::interval(BEAT);
    looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            // What has come is heard before the clock is looked at.
            biased;
            message = stream.message() => match message {
                Ok(Some(_)) => patience.heard(),
                Ok(None) | Err(_) => return,
            },
            _ = looks.tick() => {
                if patience.look(Instant::now()) {
                    return warn!("the scheduler has been silent for {SCHEDULER_SILENT_MAX:?}");
                }
                let _ = beats.try_send(beat());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_that_others_reach() {
        let check = |bind: &str, expect: &str| {
            let bind: IpAddr = bind.parse().expect("an address");
            assert_eq!(reachable_host(bind, "127.0.0.1:50050").expect("a route"), expect);
        };
        check("10.1.2.3", "10.1.2.3");
        check("::1", "[::1]");
        check("0.0.0.0", "127.0.0.1");
    }
}
