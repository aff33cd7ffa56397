//! The scheduler process: the cluster, the streaming coordinator and the servers on their ports.
//!
//! gRPC (Ballista, queries, SQL, liveness), Spark Connect and HTTP (health, metrics, API) listen before [`start`] returns, and the
//! queries of the catalog are resumed by then.
//!
//! Of the schedulers of one state directory one leads ([`ha`](crate::ha)). Without `--ha` a second one is refused: on a
//! local disk by a lock, which lasts as long as the process, on an object store by the first one's heartbeat. With it:
//!
//! ```text
//! standby ──campaign──► leader ──lost──► standby ──…
//! ```

use crate::cluster::{Cluster, Liveness};
use crate::connect::server as connect;
use crate::execute::Statements;
use crate::ha::fenced::Fenced;
use crate::ha::{self, Candidate, Epochs, Ha, LEADERSHIP_LOST, Leadership, Tenure, standby};
use crate::ingest::failpoint::Failpoint;
use crate::ingest::{Ingest, IngestRpc};
use crate::rpc::{QueryRpc, SqlRpc};
use crate::sql::catalog::Catalog;
use crate::sql::planner::Planner;
use crate::streaming::manager::Manager;
use crate::web;
use anyhow::{Context, Result, anyhow};
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use headwater_executor::connectors::files::location::{LazyObjectStoreRegistry, parse_location};
use headwater_executor::connectors::{Options, secrets};
use headwater_proto::engine::EndpointsResponse;
use headwater_proto::engine::ingest_service_server::IngestServiceServer;
use headwater_proto::engine::liveness_service_server::LivenessServiceServer;
use headwater_proto::engine::query_service_server::QueryServiceServer;
use headwater_proto::engine::sql_service_server::SqlServiceServer;
use headwater_proto::secret::Secret;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutPayload};
use std::fs::{File, TryLockError};
use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::TcpListenerStream;
use tracing::{info, warn};
use url::Url;

/// Connections that are still busy this long after shutdown began are cut.
const SHUTDOWN_MAX: Duration = Duration::from_secs(5);
/// The same for a leader that was deposed: whoever talks to it should talk to its successor.
const DEPOSED_MAX: Duration = Duration::from_millis(500);
/// Between two attempts to take over.
const TAKE_OVER_PAUSE: Duration = Duration::from_secs(1);

/// A text of statements is at most this long: INSERT … VALUES of many rows.
const REQUEST_BYTES_MAX: usize = 64 << 20;

/// How to run a scheduler.
#[derive(Debug, Clone)]
pub struct SchedulerOptions {
    /// Location of catalog and checkpoints: a path or an object store URL.
    pub state_dir: String,
    /// Address to listen on.
    pub bind: IpAddr,
    /// Ballista, queries, SQL; 0 picks one.
    pub grpc_port: u16,
    /// Spark Connect; 0 picks one.
    pub connect_port: u16,
    /// Who may use Spark Connect, and how much of it.
    pub connect: connect::Options,
    /// Health, metrics, API; 0 picks one.
    pub http_port: u16,
    /// PostgreSQL of ingest runs that name none.
    pub postgres: Option<Secret>,
    /// How several schedulers of the state directory find out who leads; without, there is one.
    pub ha: Option<Ha>,
    /// Host under which clients and executors reach this scheduler, for others to name; `bind` when absent.
    pub advertise: Option<String>,
    /// Folder of the files that options name as `${secret:NAME}`.
    pub secrets_dir: PathBuf,
    /// Batches that run have so long to end when the scheduler does.
    pub drain_timeout: Duration,
}

/// A running scheduler.
pub struct SchedulerHandle {
    grpc_addr: SocketAddr,
    connect_addr: SocketAddr,
    http_addr: SocketAddr,
    running: Running,
    drain_timeout: Duration,
    /// Kept as long as anything may write to the state directory.
    _lock: Option<File>,
}

enum Running {
    /// It leads, or has failed.
    Alone(Leader, Option<Leadership>),
    /// It leads or stands by.
    OneOfSeveral { stop: watch::Sender<bool>, roles: JoinHandle<Result<()>> },
}

impl SchedulerHandle {
    /// Where gRPC listens.
    pub fn grpc_addr(&self) -> SocketAddr {
        self.grpc_addr
    }
    /// Where Spark Connect listens.
    pub fn connect_addr(&self) -> SocketAddr {
        self.connect_addr
    }
    /// Where HTTP listens.
    pub fn http_addr(&self) -> SocketAddr {
        self.http_addr
    }
    /// Ends the runs of all queries and of ingestion, which resume at the next start. First of a shutdown: executors in this process
    /// can then drain while the scheduler still answers. One of several has no executors in its process.
    pub async fn stop_queries(&self) {
        if let Running::Alone(leader, _) = &self.running {
            leader.stop_queries(self.drain_timeout).await;
        }
    }
    /// Ends the runs of all queries, each after its batch (they resume at the next start), and closes the servers.
    pub async fn shutdown(self) -> Result<()> {
        match self.running {
            Running::Alone(leader, leadership) => {
                let ended = leader.shutdown(self.drain_timeout, SHUTDOWN_MAX).await;
                if let Some(leadership) = leadership {
                    leadership.end().await?;
                }
                ended
            }
            Running::OneOfSeveral { stop, roles } => {
                // The receiver is gone when it has ended by itself.
                let _ = stop.send(true);
                roles.await.context("roles")?
            }
        }
    }
    /// Returns when a server has failed, or another scheduler has taken the state directory, with the reason.
    pub async fn wait_failed(&mut self) -> anyhow::Error {
        match &mut self.running {
            Running::Alone(leader, None) => leader.wait_failed().await,
            Running::Alone(leader, Some(leadership)) => tokio::select! {
                failure = leader.wait_failed() => failure,
                reason = leadership.tenure().lost() => anyhow!(
                    "[STATE_DIRECTORY_IN_USE] this scheduler ends, since another uses its state directory: {reason}"
                ),
            },
            Running::OneOfSeveral { roles, .. } => match roles.await {
                Ok(Ok(())) => anyhow!("the scheduler ended"),
                Ok(Err(e)) => e,
                Err(e) => anyhow!(e),
            },
        }
    }
}

/// What runs while this scheduler leads.
struct Leader {
    stop: watch::Sender<bool>,
    manager: Manager,
    ingest: Ingest,
    servers: JoinHandle<Result<()>>,
}

impl Leader {
    /// Batches that run have `drain` to end.
    async fn stop_queries(&self, drain: Duration) {
        info!(timeout = ?drain, "draining: batches that run end, none begins");
        tokio::join!(self.ingest.shutdown(), self.manager.drain(drain));
    }
    async fn shutdown(self, drain: Duration, servers_max: Duration) -> Result<()> {
        self.stop_queries(drain).await;
        // The receivers are gone only when the servers have ended already.
        let _ = self.stop.send(true);
        let servers = self.servers;
        let abort = servers.abort_handle();
        match tokio::time::timeout(servers_max, servers).await {
            Ok(ended) => ended.context("servers")?,
            Err(_) => {
                abort.abort();
                Ok(())
            }
        }
    }
    async fn wait_failed(&mut self) -> anyhow::Error {
        match (&mut self.servers).await {
            Ok(Ok(())) => anyhow!("the scheduler's servers ended"),
            Ok(Err(e)) => e,
            Err(e) => anyhow!(e),
        }
    }
    /// Ends what another scheduler does by now: connections first, so that executors and clients go there.
    async fn depose(self) {
        let _ = self.stop.send(true);
        let ended = self.shutdown(Duration::ZERO, DEPOSED_MAX);
        match tokio::time::timeout(SHUTDOWN_MAX, ended).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => warn!(error = format!("{error:#}"), "a deposed leader's servers ended with an error"),
            // What is left can write nothing any more.
            Err(_) => warn!("runs of a deposed leader had not ended after {SHUTDOWN_MAX:?}, leaving them"),
        }
    }
}

/// The ports, bound once; each role listens to copies.
struct Ports {
    grpc: std::net::TcpListener,
    connect: std::net::TcpListener,
    http: std::net::TcpListener,
}

/// A listener of this role, on a port that is bound for the life of the process.
fn listener(port: &std::net::TcpListener) -> Result<TcpListener> {
    Ok(TcpListener::from_std(port.try_clone()?)?)
}

/// The state directory.
struct State {
    store: Arc<dyn ObjectStore>,
    root: Path,
    url: Url,
    /// Absolute: a later start from another folder must find the same checkpoints.
    name: String,
}

/// Locks a state directory on a local disk, and leaves this process's id in the lock for whoever finds it taken. The
/// system takes the lock away when the process ends, however it ends. One of several schedulers (`shared`) keeps out
/// those that would be alone, and the other way about.
fn lock(state_dir: &Url, shared: bool) -> Result<Option<File>> {
    let Some(folder) = state_dir.to_file_path().ok().filter(|_| state_dir.scheme() == "file") else { return Ok(None) };
    std::fs::create_dir_all(&folder).with_context(|| {
        format!("cannot make state directory {}: check --state-dir and its permissions", folder.display())
    })?;
    let path = folder.join("lock");
    let failed =
        || format!("cannot write to state directory {}: check --state-dir and its permissions", folder.display());
    let opened = File::options().read(true).write(true).create(true).truncate(false).open(&path);
    let mut file = opened.with_context(failed)?;
    match if shared { file.try_lock_shared() } else { file.try_lock() } {
        Ok(()) if shared => {
            // Of several none is named, and the one that was alone here before is gone.
            file.set_len(0).with_context(failed)?;
            return Ok(Some(file));
        }
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut owner = String::new();
            // Not readable, or not written yet: then it has no name.
            let _ = file.read_to_string(&mut owner);
            let owner = if owner.trim().is_empty() { "another process" } else { owner.trim() };
            return Err(anyhow!(
                "[STATE_DIRECTORY_IN_USE] state directory {} is in use by {owner}: stop that scheduler first, name \
                 another directory with --state-dir, or start both with --ha",
                folder.display()
            ));
        }
        Err(TryLockError::Error(error)) if error.kind() == ErrorKind::Unsupported => {
            tracing::warn!(state_dir = %folder.display(), "the file system has no locks: run one scheduler only");
            return Ok(None);
        }
        Err(TryLockError::Error(error)) => return Err(anyhow!(error).context(failed())),
    }
    file.set_len(0).with_context(failed)?;
    writeln!(file, "process {}", std::process::id()).with_context(failed)?;
    Ok(Some(file))
}

/// Starts a scheduler.
///
/// # Errors
/// A port in use, a state directory that cannot be read or written or that another scheduler uses.
pub async fn start(options: SchedulerOptions) -> Result<SchedulerHandle> {
    let listen = async |port: u16, what: &str, flag: &str| {
        TcpListener::bind((options.bind, port)).await.map_err(|error| {
            let remedy = match error.kind() {
                ErrorKind::AddrInUse => {
                    format!("is another scheduler running? choose another with {flag}; 0 picks a free one")
                }
                ErrorKind::AddrNotAvailable => "give --bind an address of this machine, or 0.0.0.0 for all".into(),
                _ => format!("choose another with {flag}"),
            };
            anyhow!("cannot listen on {}:{port} for {what}: {error}: {remedy}", options.bind)
        })
    };
    let ports = Ports {
        grpc: listen(options.grpc_port, "gRPC", "--grpc-port").await?.into_std()?,
        connect: listen(options.connect_port, "Spark Connect", "--connect-port").await?.into_std()?,
        http: listen(options.http_port, "HTTP", "--http-port").await?.into_std()?,
    };
    let (grpc_addr, connect_addr, http_addr) =
        (ports.grpc.local_addr()?, ports.connect.local_addr()?, ports.http.local_addr()?);

    secrets::set_folder(options.secrets_dir.clone());
    let drain_timeout = options.drain_timeout;
    let (store, root, url) = parse_location(&options.state_dir, &Options::default())
        .with_context(|| format!("state directory {}", options.state_dir))?;
    let lock = lock(&url, options.ha.is_some())?;
    // Found out now, not by the first query's first batch.
    let probe = root.clone().join(format!(".probe-{}", uuid::Uuid::new_v4()));
    let written = async {
        store.put(&probe, PutPayload::new()).await?;
        store.delete(&probe).await
    };
    written.await.with_context(|| {
        format!("cannot write to state directory {}: check --state-dir and its permissions", options.state_dir)
    })?;
    let name = match url.to_file_path() {
        Ok(path) if url.scheme() == "file" => path.display().to_string(),
        _ => options.state_dir.clone(),
    };
    let state = State { store, root, url, name };
    let epochs = Epochs::new(Arc::clone(&state.store), &state.root);
    let candidate = || Candidate::new(epochs.clone(), options.ha.as_ref(), this_scheduler(&options, grpc_addr));
    let running = if options.ha.is_some() {
        let (stop, stopped) = watch::channel(false);
        let candidate = candidate();
        let roles = tokio::spawn(take_roles(options, ports, state, candidate, stopped));
        Running::OneOfSeveral { stop, roles }
    } else if lock.is_some() || state.url.scheme() == "file" {
        Running::Alone(lead(&options, &ports, &state, Tenure::undisputed()).await?, None)
    } else {
        let leadership = candidate().campaign().await.with_context(|| format!("state directory {}", state.name))?;
        let leader = lead(&options, &ports, &state, leadership.tenure().clone()).await?;
        Running::Alone(leader, Some(leadership))
    };
    Ok(SchedulerHandle { grpc_addr, connect_addr, http_addr, running, drain_timeout, _lock: lock })
}

/// How others know this scheduler.
fn this_scheduler(options: &SchedulerOptions, grpc: SocketAddr) -> ha::Leader {
    // Linux tells it here; elsewhere, and when it cannot be read, the address must do.
    let machine = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let machine = if machine.trim().is_empty() { grpc.ip().to_string() } else { machine.trim().to_string() };
    let address = match &options.advertise {
        Some(host) => format!("{host}:{}", grpc.port()),
        None if grpc.ip().is_unspecified() => format!("{machine}:{}", grpc.port()),
        None => grpc.to_string(),
    };
    let process = format!("process {} on {machine}", std::process::id());
    ha::Leader { holder: uuid::Uuid::new_v4(), address, process }
}

/// Stands by until it leads, leads until it is deposed, and so on, until `stop`.
async fn take_roles(
    options: SchedulerOptions,
    ports: Ports,
    state: State,
    mut candidate: Candidate,
    stop: watch::Receiver<bool>,
) -> Result<()> {
    let stopped = || {
        let mut stop = stop.clone();
        async move {
            // The sender gone is a stop as well.
            let _ = stop.wait_for(|stop| *stop).await;
        }
    };
    loop {
        info!(state_dir = state.name, ha = options.ha.as_ref().map(tracing::field::display), "standing by");
        let (end, ended) = watch::channel(false);
        let mut servers = stand_by(&ports, candidate.known(), ended)?;
        let leadership = tokio::select! {
            leadership = candidate.campaign() => leadership?,
            () = stopped() => return Ok(()),
            failed = &mut servers => return failed.context("servers")?,
        };
        // Nobody listens for a moment; who calls meanwhile waits in the queue of the port.
        let _ = end.send(true);
        let abort = servers.abort_handle();
        if tokio::time::timeout(DEPOSED_MAX, servers).await.is_err() {
            abort.abort();
        }
        let tenure = leadership.tenure().clone();
        let led = tokio::select! {
            led = lead(&options, &ports, &state, tenure.clone()) => led,
            // What it has begun by now may write nothing once the leadership has ended, and goes with the process.
            () = stopped() => {
                leadership.end().await?;
                return Ok(());
            }
        };
        let mut leader = match led {
            Ok(leader) => leader,
            Err(error) if may_pass(&error) => {
                warn!(error = format!("{error:#}"), "could not take over, standing by again");
                candidate = leadership.end().await?;
                tokio::select! {
                    () = tokio::time::sleep(TAKE_OVER_PAUSE) => continue,
                    () = stopped() => return Ok(()),
                }
            }
            Err(error) => {
                leadership.end().await?;
                return Err(error);
            }
        };
        tokio::select! {
            () = stopped() => {
                let ended = leader.shutdown(options.drain_timeout, SHUTDOWN_MAX).await;
                leadership.end().await?;
                return ended;
            }
            failure = leader.wait_failed() => {
                leadership.end().await?;
                return Err(failure);
            }
            reason = tenure.lost() => {
                warn!(epoch = tenure.epoch(), reason, "this scheduler leads no more: it ends its runs and stands by");
                leader.depose().await;
                candidate = leadership.end().await?;
            }
        }
    }
}

/// Whether a take-over that failed of this may come about later.
fn may_pass(error: &anyhow::Error) -> bool {
    let error = error.downcast_ref::<headwater_proto::error::Error>();
    error.is_some_and(|error| {
        error.kind == headwater_proto::error::ErrorKind::Transient || error.class == LEADERSHIP_LOST
    })
}

/// Serves what a standby serves, until `stop`.
fn stand_by(ports: &Ports, known: standby::Known, stop: watch::Receiver<bool>) -> Result<JoinHandle<Result<()>>> {
    let (grpc, connect, http) = (listener(&ports.grpc)?, listener(&ports.connect)?, listener(&ports.http)?);
    Ok(tokio::spawn(async move {
        let stopped = || {
            let mut stop = stop.clone();
            async move {
                let _ = stop.wait_for(|stop| *stop).await;
            }
        };
        let http = axum::serve(http, standby::routes(known.clone())).with_graceful_shutdown(stopped());
        let (grpc, connect, http) = tokio::join!(
            standby::grpc(grpc, known.clone(), stopped()),
            standby::grpc(connect, known.clone(), stopped()),
            http
        );
        grpc.context("gRPC server")?;
        connect.context("Spark Connect server")?;
        http.context("HTTP server")
    }))
}

/// Takes up all queries and serves them.
async fn lead(options: &SchedulerOptions, ports: &Ports, state: &State, tenure: Tenure) -> Result<Leader> {
    let (grpc, connect_listener, http) = (listener(&ports.grpc)?, listener(&ports.connect)?, listener(&ports.http)?);
    let (grpc_addr, connect_addr, http_addr) = (grpc.local_addr()?, connect_listener.local_addr()?, http.local_addr()?);
    let State { root, url, name: state_dir, .. } = state;
    let store = Fenced::over(Arc::clone(&state.store), tenure.clone());
    let cluster = Cluster::start().await?;
    let warehouse = format!("{}/warehouse", url.as_str().trim_end_matches('/'));
    let catalog = Arc::new(
        Catalog::open(Arc::clone(&store), root, warehouse)
            .await
            .with_context(|| format!("cannot read the catalog in state directory {}", options.state_dir))?,
    );
    let runtime = RuntimeEnvBuilder::new().with_object_store_registry(Arc::new(LazyObjectStoreRegistry::default()));
    let task_slots = cluster.task_slots();
    let planner = Arc::new(Planner::new(catalog, runtime.build_arc().context("runtime")?).with_task_slots(task_slots));
    let manager = Manager::open(
        Arc::clone(&store),
        root.clone(),
        state_dir.clone(),
        cluster.clone(),
        Arc::clone(&planner),
        crate::streaming::failpoint::from_environment()?,
        tenure.clone(),
    )
    .await
    .with_context(|| format!("cannot resume the queries of state directory {}", options.state_dir))?;

    let statements = Statements { planner, cluster: cluster.clone(), manager: manager.clone() };
    let ingest = async {
        let failpoint = Failpoint::from_environment()?;
        let opened = Ingest::open(store, root, statements.clone(), options.postgres.clone(), failpoint).await;
        opened.with_context(|| format!("cannot resume the ingest runs of state directory {}", options.state_dir))
    };
    let ingest = match ingest.await {
        Ok(ingest) => ingest,
        Err(error) => {
            // Nobody else would: the queries run by now.
            manager.drain(Duration::ZERO).await;
            return Err(error);
        }
    };

    let (stop, stopped) = watch::channel(false);
    let wait = |mut stopped: watch::Receiver<bool>| async move {
        // The sender gone is a stop as well.
        let _ = stopped.wait_for(|stop| *stop).await;
    };
    let incoming = TcpListenerStream::new(grpc).map(|accepted| {
        accepted.inspect(|stream| {
            // Small messages back and forth: never wait to fill a packet.
            if let Err(e) = stream.set_nodelay(true) {
                tracing::debug!(error = %e, "TCP_NODELAY refused");
            }
        })
    });
    let endpoints = EndpointsResponse {
        connect_port: connect_addr.port().into(),
        http_port: http_addr.port().into(),
        epoch: tenure.epoch(),
    };
    let grpc_server = tonic::transport::Server::builder()
        .http2_keepalive_interval(Some(Duration::from_secs(10)))
        .http2_keepalive_timeout(Some(Duration::from_secs(10)))
        .add_service(cluster.grpc_service())
        .add_service(LivenessServiceServer::new(Liveness::new(cluster.clone(), stopped.clone())))
        .add_service(
            QueryServiceServer::new(QueryRpc::new(statements.clone(), endpoints))
                .max_decoding_message_size(REQUEST_BYTES_MAX),
        )
        .add_service(
            SqlServiceServer::new(SqlRpc::new(statements.clone(), stopped.clone()))
                .max_decoding_message_size(REQUEST_BYTES_MAX),
        )
        .add_service(IngestServiceServer::new(IngestRpc::new(ingest.clone())))
        .serve_with_incoming_shutdown(incoming, wait(stopped.clone()));
    let connect_server = connect::serve(connect_listener, options.connect.clone(), statements.clone(), stopped.clone());
    let http_server = axum::serve(http, web::routes(manager.clone(), cluster.clone(), ingest.clone(), tenure));
    let servers = tokio::spawn(async move {
        let http_server = http_server.with_graceful_shutdown(wait(stopped));
        let (grpc, connect, http) = tokio::join!(grpc_server, connect_server, http_server);
        grpc.context("gRPC server")?;
        connect.context("Spark Connect server")?;
        http.context("HTTP server")
    });
    info!(%grpc_addr, %connect_addr, %http_addr, state_dir = options.state_dir, "scheduler started");
    Ok(Leader { stop, manager, ingest, servers })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::streaming::checkpoint::tests::{Fault, FaultyStore};

    fn options(state_dir: &std::path::Path) -> SchedulerOptions {
        SchedulerOptions {
            state_dir: state_dir.display().to_string(),
            bind: [127, 0, 0, 1].into(),
            grpc_port: 0,
            connect_port: 0,
            connect: connect::Options::default(),
            http_port: 0,
            postgres: None,
            ha: None,
            advertise: None,
            secrets_dir: secrets::DEFAULT_FOLDER.into(),
            drain_timeout: Duration::ZERO,
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_state_directory_has_one_scheduler() {
        let folder = tempfile::tempdir().unwrap();
        let first = start(options(folder.path())).await.unwrap();
        let refused = start(options(folder.path())).await.err().expect("refused").to_string();
        let expect = format!("is in use by process {}", std::process::id());
        assert!(refused.contains("[STATE_DIRECTORY_IN_USE]") && refused.contains(&expect), "{refused}");
        first.shutdown().await.unwrap();
        start(options(folder.path())).await.unwrap().shutdown().await.unwrap();
        assert!(lock(&Url::parse("s3://bucket/state").unwrap(), false).unwrap().is_none());
    }

    #[test]
    fn one_of_several_names_nobody_in_the_lock() {
        let folder = tempfile::tempdir().unwrap();
        let url = Url::from_directory_path(folder.path()).unwrap();
        drop(lock(&url, false).unwrap());
        let _one_of_several = lock(&url, true).unwrap();
        let refused = lock(&url, false).unwrap_err().to_string();
        assert!(refused.contains("is in use by another process"), "{refused}");
    }

    /// The store answers once that it is away, and then not at all.
    #[tokio::test(flavor = "multi_thread")]
    async fn a_take_over_that_fails_for_a_moment_is_tried_again_and_ends_with_the_process() {
        let (tell_reads, mut reads) = tokio::sync::mpsc::unbounded_channel();
        let mut answers = vec![Fault::Hang, Fault::Before];
        let store = FaultyStore::new(move |request| match request {
            "get state/catalog/databases/d.json" => {
                tell_reads.send(()).unwrap();
                answers.pop().unwrap()
            }
            _ => Fault::None,
        });
        let root = Path::from("state");
        let definition = r#"{"name": "d", "location": "memory:///d"}"#;
        store.put(&Path::from("state/catalog/databases/d.json"), definition.into()).await.unwrap();
        let state = State { store, root: root.clone(), url: Url::parse("memory:///state").unwrap(), name: "s".into() };
        let epochs = Epochs::new(Arc::new(object_store::memory::InMemory::new()), &root);
        let bind = || std::net::TcpListener::bind("127.0.0.1:0").map(|port| port.set_nonblocking(true).map(|()| port));
        let ports =
            Ports { grpc: bind().unwrap().unwrap(), connect: bind().unwrap().unwrap(), http: bind().unwrap().unwrap() };
        let options = SchedulerOptions { ha: Some(Ha::StateDir), ..options(std::path::Path::new("unused")) };
        let me = this_scheduler(&options, ports.grpc.local_addr().unwrap());
        let candidate = Candidate::new(epochs.clone(), options.ha.as_ref(), me);
        let (stop, stopped) = watch::channel(false);
        let roles = tokio::spawn(take_roles(options, ports, state, candidate, stopped));
        for _ in 0..2 {
            tokio::time::timeout(Duration::from_secs(30), reads.recv()).await.expect("it takes over in time").unwrap();
        }
        assert_eq!(epochs.latest().await.unwrap().unwrap().0, 2, "it gave up the first and took the second");
        stop.send(true).unwrap();
        tokio::time::timeout(Duration::from_secs(30), roles).await.expect("it ends in time").unwrap().unwrap();
    }
}
