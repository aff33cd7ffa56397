//! The scheduler process: the cluster, the streaming coordinator and the servers on their ports.
//!
//! gRPC (Ballista, queries, SQL, liveness), Spark Connect and HTTP (health, metrics, API) listen before [`start`] returns, and the
//! queries of the catalog are resumed by then.
//!
//! A state directory on a local disk is locked for the life of the scheduler: a second one would run every query again,
//! and record the failures of those that lose as theirs. An object store has no lock that dies with its holder; there
//! it is up to whoever starts schedulers.

use crate::cluster::{Cluster, Liveness};
use crate::connect::server as connect;
use crate::execute::Statements;
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
use object_store::{ObjectStoreExt, PutPayload};
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
use tracing::info;
use url::Url;

/// Connections that are still busy this long after shutdown began are cut.
const SHUTDOWN_MAX: Duration = Duration::from_secs(5);

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
    stop: watch::Sender<bool>,
    manager: Manager,
    ingest: Ingest,
    servers: JoinHandle<Result<()>>,
    drain_timeout: Duration,
    /// Kept as long as anything may write to the state directory.
    _lock: Option<File>,
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
    /// can then drain while the scheduler still answers.
    pub async fn stop_queries(&self) {
        info!(timeout = ?self.drain_timeout, "draining: batches that run end, none begins");
        tokio::join!(self.ingest.shutdown(), self.manager.drain(self.drain_timeout));
    }
    /// Ends the runs of all queries, each after its batch (they resume at the next start), and closes the servers.
    pub async fn shutdown(self) -> Result<()> {
        self.stop_queries().await;
        // The receivers are gone only when the servers have ended already.
        let _ = self.stop.send(true);
        let servers = self.servers;
        let abort = servers.abort_handle();
        match tokio::time::timeout(SHUTDOWN_MAX, servers).await {
            Ok(ended) => ended.context("servers")?,
            Err(_) => {
                abort.abort();
                Ok(())
            }
        }
    }
    /// Returns when a server has failed, with the reason.
    pub async fn wait_failed(&mut self) -> anyhow::Error {
        match (&mut self.servers).await {
            Ok(Ok(())) => anyhow!("the scheduler's servers ended"),
            Ok(Err(e)) => e,
            Err(e) => anyhow!(e),
        }
    }
}

/// Locks a state directory on a local disk, and leaves this process's id in the lock for whoever finds it taken. The
/// system takes the lock away when the process ends, however it ends.
fn lock(state_dir: &Url) -> Result<Option<File>> {
    let Some(folder) = state_dir.to_file_path().ok().filter(|_| state_dir.scheme() == "file") else { return Ok(None) };
    std::fs::create_dir_all(&folder).with_context(|| {
        format!("cannot make state directory {}: check --state-dir and its permissions", folder.display())
    })?;
    let path = folder.join("lock");
    let failed =
        || format!("cannot write to state directory {}: check --state-dir and its permissions", folder.display());
    let opened = File::options().read(true).write(true).create(true).truncate(false).open(&path);
    let mut file = opened.with_context(failed)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut owner = String::new();
            // Not readable, or not written yet: then it has no name.
            let _ = file.read_to_string(&mut owner);
            let owner = if owner.trim().is_empty() { "another process" } else { owner.trim() };
            return Err(anyhow!(
                "[STATE_DIRECTORY_IN_USE] state directory {} is in use by {owner}: stop that scheduler first, or name \
                 another directory with --state-dir",
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
    let grpc = listen(options.grpc_port, "gRPC", "--grpc-port").await?;
    let connect_listener = listen(options.connect_port, "Spark Connect", "--connect-port").await?;
    let http = listen(options.http_port, "HTTP", "--http-port").await?;
    let (grpc_addr, connect_addr, http_addr) = (grpc.local_addr()?, connect_listener.local_addr()?, http.local_addr()?);

    secrets::set_folder(options.secrets_dir);
    let (store, root, url) = parse_location(&options.state_dir, &Options::default())
        .with_context(|| format!("state directory {}", options.state_dir))?;
    let lock = lock(&url)?;
    // Found out now, not by the first query's first batch.
    let probe = root.clone().join(format!(".probe-{}", uuid::Uuid::new_v4()));
    let written = async {
        store.put(&probe, PutPayload::new()).await?;
        store.delete(&probe).await
    };
    written.await.with_context(|| {
        format!("cannot write to state directory {}: check --state-dir and its permissions", options.state_dir)
    })?;
    let cluster = Cluster::start().await?;
    let warehouse = format!("{}/warehouse", url.as_str().trim_end_matches('/'));
    let catalog = Arc::new(
        Catalog::open(Arc::clone(&store), &root, warehouse)
            .await
            .with_context(|| format!("cannot read the catalog in state directory {}", options.state_dir))?,
    );
    let runtime = RuntimeEnvBuilder::new().with_object_store_registry(Arc::new(LazyObjectStoreRegistry::default()));
    let planner = Arc::new(Planner::new(catalog, runtime.build_arc().context("runtime")?));
    // Absolute: a later start from another folder must find the same checkpoints.
    let state_dir = match url.to_file_path() {
        Ok(path) if url.scheme() == "file" => path.display().to_string(),
        _ => options.state_dir.clone(),
    };
    let manager = Manager::open(
        Arc::clone(&store),
        root.clone(),
        state_dir,
        cluster.clone(),
        Arc::clone(&planner),
        crate::streaming::failpoint::from_environment()?,
    )
    .await
    .with_context(|| format!("cannot resume the queries of state directory {}", options.state_dir))?;

    let statements = Statements { planner, cluster: cluster.clone(), manager: manager.clone() };
    let ingest = Ingest::open(store, &root, statements.clone(), options.postgres, Failpoint::from_environment()?)
        .await
        .with_context(|| format!("cannot resume the ingest runs of state directory {}", options.state_dir))?;

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
    let endpoints = EndpointsResponse { connect_port: connect_addr.port().into(), http_port: http_addr.port().into() };
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
    let connect_server = connect::serve(connect_listener, options.connect, statements.clone(), stopped.clone());
    let http_server = axum::serve(http, web::routes(manager.clone(), cluster.clone(), ingest.clone()));
    let servers = tokio::spawn(async move {
        let http_server = http_server.with_graceful_shutdown(wait(stopped));
        let (grpc, connect, http) = tokio::join!(grpc_server, connect_server, http_server);
        grpc.context("gRPC server")?;
        connect.context("Spark Connect server")?;
        http.context("HTTP server")
    });
    info!(%grpc_addr, %connect_addr, %http_addr, state_dir = options.state_dir, "scheduler started");
    let drain_timeout = options.drain_timeout;
    Ok(SchedulerHandle {
        grpc_addr,
        connect_addr,
        http_addr,
        stop,
        manager,
        ingest,
        servers,
        drain_timeout,
        _lock: lock,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(state_dir: &std::path::Path) -> SchedulerOptions {
        SchedulerOptions {
            state_dir: state_dir.display().to_string(),
            bind: [127, 0, 0, 1].into(),
            grpc_port: 0,
            connect_port: 0,
            connect: connect::Options::default(),
            http_port: 0,
            postgres: None,
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
        assert!(lock(&Url::parse("s3://bucket/state").unwrap()).unwrap().is_none());
    }
}
