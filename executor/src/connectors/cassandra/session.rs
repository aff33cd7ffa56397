//! One driver session per process and cluster, with what tasks share about it: prepared statements, the ring, and the
//! limit of requests in flight.

use super::backpressure::{Failure, Limiter, Verdict, classify, with_retries};
use super::options::{Compression, Connection, TableName};
use super::schema::{TableColumn, TableSchema, quoted};
use super::tls;
use super::token_ranges::ReplicaMap;
use headwater_proto::error::{Error, ErrorKind, Result};
use scylla::client::execution_profile::ExecutionProfile;
use scylla::client::session::Session;
use scylla::client::session_builder::SessionBuilder;
use scylla::client::{Compression as DriverCompression, PoolSize};
use scylla::cluster::{ClusterState, NodeRef};
use scylla::errors::{
    ConnectionError, ConnectionPoolError, ConnectionSetupRequestErrorKind, DbError, ExecutionError, MetadataError,
    NewSessionError, PrepareError,
};
use scylla::frame::response::result::TableSpec;
use scylla::policies::load_balancing::{DefaultPolicy, FallbackPlan, LoadBalancingPolicy, RoutingInfo};
use scylla::policies::retry::FallthroughRetryPolicy;
use scylla::response::query_result::QueryResult;
use scylla::routing::{Shard, Token};
use scylla::statement::prepared::PreparedStatement;
use std::collections::{BTreeMap, HashMap};
use std::num::NonZeroUsize;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::OnceCell;

/// Statements kept prepared; a process that has more starts over.
const PREPARED_MAX: usize = 1024;
/// A session that is unused for so long is closed when another is asked for.
const UNUSED_MAX: Duration = Duration::from_secs(10 * 60);

/// A session and what is shared beside it.
pub struct Cluster {
    session: Session,
    /// Contact points, for messages.
    pub label: String,
    /// Bounds the requests in flight of the whole process.
    pub limiter: Limiter,
    /// Where requests go: to a replica where a key tells it, within the local data centre where there is one.
    policy: Arc<dyn LoadBalancingPolicy>,
    local_dc: Option<String>,
    /// What the driver itself does not bound: reading the schema, which takes in connecting anew, and preparing.
    metadata_timeout: Duration,
    prepare_timeout: Duration,
    prepared: Mutex<HashMap<String, Arc<OnceCell<PreparedStatement>>>>,
    /// By keyspace, with the cluster state that it was computed from.
    replicas: Mutex<HashMap<String, (Arc<ClusterState>, Arc<ReplicaMap>)>>,
}

impl std::fmt::Debug for Cluster {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cluster").field("label", &self.label).field("limiter", &self.limiter).finish_non_exhaustive()
    }
}

/// A session's tasks live in the runtime that made it, so that runtimes do not share sessions.
type Key = (tokio::runtime::Id, Connection);
type Clusters<T> = HashMap<Key, Kept<T>>;
static CLUSTERS: LazyLock<Mutex<Clusters<Cluster>>> = LazyLock::new(Mutex::default);

/// A session that is there, or is being made.
struct Kept<T> {
    cell: Arc<OnceCell<Arc<T>>>,
    /// When it was last asked for.
    used: Instant,
}

/// What these locks guard is whole between statements, so that a panic elsewhere does not spoil it.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The cluster behind these options, connected once however many ask.
///
/// # Errors
/// `CASSANDRA_UNREACHABLE`, transient; `CASSANDRA_AUTHENTICATION_FAILED`; an unknown data centre.
pub async fn cluster(connection: &Connection) -> Result<Arc<Cluster>> {
    let key = (tokio::runtime::Handle::current().id(), connection.clone());
    let (cell, unused) = {
        let (mut clusters, now) = (lock(&CLUSTERS), Instant::now());
        let kept = clusters.entry(key).or_insert_with(|| Kept { cell: Arc::default(), used: now });
        kept.used = now;
        (Arc::clone(&kept.cell), take_unused(&mut clusters, now))
    };
    // Closes their sessions.
    drop(unused);
    cell.get_or_try_init(|| connect(connection)).await.cloned()
}

/// Takes out the sessions that nobody holds and nobody has asked for in a while: an executor that has lost its
/// scheduler registers anew in another runtime, and leaves those of the former behind.
fn take_unused<T>(clusters: &mut Clusters<T>, now: Instant) -> Vec<Kept<T>> {
    let unused = |kept: &Kept<T>| {
        now.duration_since(kept.used) >= UNUSED_MAX
            && Arc::strong_count(&kept.cell) == 1
            && kept.cell.get().is_none_or(|cluster| Arc::strong_count(cluster) == 1)
    };
    clusters.extract_if(|_, kept| unused(kept)).map(|(_, kept)| kept).collect()
}

async fn connect(connection: &Connection) -> Result<Arc<Cluster>> {
    let label = connection.label();
    let mut policy = DefaultPolicy::builder().token_aware(true);
    if let Some(dc) = &connection.local_dc {
        policy = policy.prefer_datacenter(dc.clone()).permit_dc_failover(false);
    }
    let policy = policy.build();
    let profile = ExecutionProfile::builder()
        .request_timeout(Some(Duration::from_millis(connection.request_timeout_ms)))
        // Retries are ours: bounded, with backoff, and counted.
        .retry_policy(Arc::new(FallthroughRetryPolicy))
        .load_balancing_policy(Arc::clone(&policy))
        .build();
    let connect_timeout = Duration::from_millis(connection.connect_timeout_ms);
    let mut builder = SessionBuilder::new()
        .known_nodes(&connection.hosts)
        .connection_timeout(connect_timeout)
        .pool_size(PoolSize::PerHost(NonZeroUsize::new(connection.connections_per_host).unwrap_or(NonZeroUsize::MIN)))
        .compression(connection.compression.map(|compression| match compression {
            Compression::Lz4 => DriverCompression::Lz4,
            Compression::Snappy => DriverCompression::Snappy,
        }))
        // A node that hangs is noticed in 20 s, long before its requests time out.
        .keepalive_interval(Duration::from_secs(10))
        .keepalive_timeout(Duration::from_secs(10))
        .default_execution_profile_handle(profile.into_handle());
    if let Some(tls) = &connection.tls {
        builder = builder.tls_context(Some(tls.connector().await?));
    }
    if let (Some(username), Some(password)) = (&connection.username, &connection.password) {
        builder = builder.user(username, password);
    }
    // Names are resolved, several nodes tried and metadata read: some multiple of one connection's time.
    let metadata_timeout = connect_timeout * 4;
    let session = match tokio::time::timeout(metadata_timeout, builder.build()).await {
        Ok(session) => session.map_err(|error| connect_error(&error, &label))?,
        Err(_) => return Err(unreachable(&label, format_args!("no session within {metadata_timeout:?}"))),
    };
    if let Some(dc) = &connection.local_dc {
        let state = session.get_cluster_state();
        let known = state.replica_locator().datacenter_names();
        if !known.contains(dc) {
            return Err(Error::invalid(
                "CASSANDRA_INVALID_OPTION",
                format!(
                    "option spark.cassandra.connection.localDC is {dc}, which cassandra {label} does not have: it has {}",
                    known.join(", ")
                ),
            ));
        }
    }
    tracing::info!(hosts = %label, "connected to cassandra");
    Ok(Arc::new(Cluster {
        session,
        label,
        limiter: Limiter::default(),
        policy,
        local_dc: connection.local_dc.clone(),
        metadata_timeout,
        prepare_timeout: Duration::from_millis(connection.request_timeout_ms),
        prepared: Mutex::default(),
        replicas: Mutex::default(),
    }))
}

/// Sends the requests for a range of tokens to one of the range's replicas, which saves a hop between nodes. The driver
/// by itself knows the replicas of whole keys alone.
#[derive(Debug)]
struct NearToken {
    table: TableName,
    token: Token,
    local_dc: Option<String>,
    /// Of the session: when no replica is connected.
    otherwise: Arc<dyn LoadBalancingPolicy>,
}

impl LoadBalancingPolicy for NearToken {
    fn pick<'a>(
        &'a self,
        request: &'a RoutingInfo<'_>,
        cluster: &'a ClusterState,
    ) -> Option<(NodeRef<'a>, Option<Shard>)> {
        let replica = cluster.get_keyspace(&self.table.keyspace).and_then(|keyspace| {
            let table = TableSpec::borrowed(&self.table.keyspace, &self.table.table);
            let dc = self.local_dc.as_deref();
            let replicas = cluster.replica_locator().replicas_for_token(self.token, &keyspace.strategy, dc, &table);
            replicas.choose_filtered(&mut rand::rng(), |(node, _)| node.is_connected())
        });
        match replica {
            Some((node, shard)) => Some((node, Some(shard))),
            None => self.otherwise.pick(request, cluster),
        }
    }

    fn fallback<'a>(&'a self, request: &'a RoutingInfo<'_>, cluster: &'a ClusterState) -> FallbackPlan<'a> {
        self.otherwise.fallback(request, cluster)
    }

    fn name(&self) -> String {
        "NearToken".into()
    }
}

fn unreachable(label: &str, why: impl std::fmt::Display) -> Error {
    Error::transient(
        "CASSANDRA_UNREACHABLE",
        format!(
            "cannot connect to cassandra on {label}: {why}; check that it runs and option spark.cassandra.connection.host"
        ),
    )
}

fn connect_error(error: &NewSessionError, label: &str) -> Error {
    let last = match error {
        NewSessionError::MetadataError(MetadataError::ConnectionPoolError(ConnectionPoolError::Broken {
            last_connection_error,
        })) => Some(last_connection_error),
        _ => None,
    };
    if let Some(ConnectionError::IoError(why)) = last
        && let Some(refused) = tls::handshake_error(why, label)
    {
        return refused;
    }
    let setup = match last {
        Some(ConnectionError::ConnectionSetupRequestError(setup)) => Some(setup.get_error()),
        _ => None,
    };
    let refused = |why: String| {
        Error::invalid(
            "CASSANDRA_AUTHENTICATION_FAILED",
            format!(
                "cassandra on {label} refused the login: {why}; check options spark.cassandra.auth.username and \
                 spark.cassandra.auth.password"
            ),
        )
    };
    match setup {
        Some(ConnectionSetupRequestErrorKind::MissingAuthentication) => refused("it wants a user".into()),
        Some(ConnectionSetupRequestErrorKind::DbError(DbError::AuthenticationError | DbError::Unauthorized, why)) => {
            refused(why.clone())
        }
        Some(
            ConnectionSetupRequestErrorKind::StartAuthSessionError(why)
            | ConnectionSetupRequestErrorKind::AuthChallengeEvaluationError(why)
            | ConnectionSetupRequestErrorKind::AuthFinishError(why),
        ) => refused(why.to_string()),
        _ => match error {
            NewSessionError::IllegalConfig(why) => Error::invalid("CASSANDRA_INVALID_OPTION", why),
            other => unreachable(label, other),
        },
    }
}

/// A failed request as an error of ours.
pub fn request_error(failure: &Failure, what: &str, label: &str) -> Error {
    let causes = failure.causes.join("; ");
    let message = match failure.retries {
        0 => format!("failed to {what} on cassandra {label}: {causes}"),
        retries => format!("failed to {what} on cassandra {label} after {retries} retries: {causes}"),
    };
    match failure.verdict {
        Verdict::Retry(_) | Verdict::GiveUp => Error::transient("CASSANDRA_REQUEST_FAILED", message),
        Verdict::Invalid | Verdict::Fail => Error::invalid("CASSANDRA_REQUEST_FAILED", message),
    }
}

fn single(error: &ExecutionError) -> Failure {
    let verdict = match classify(error, true) {
        Verdict::Retry(_) => Verdict::GiveUp,
        verdict => verdict,
    };
    Failure { verdict, causes: vec![error.to_string()], retries: 0 }
}

impl Cluster {
    /// The driver's session.
    pub fn session(&self) -> &Session {
        &self.session
    }

    /// The statement, prepared once per process.
    pub async fn prepare(&self, cql: &str) -> Result<PreparedStatement> {
        let cell = {
            let mut prepared = lock(&self.prepared);
            if prepared.len() >= PREPARED_MAX && !prepared.contains_key(cql) {
                prepared.clear();
            }
            Arc::clone(prepared.entry(cql.into()).or_default())
        };
        let prepare = || async {
            let prepared = match tokio::time::timeout(self.prepare_timeout, self.session.prepare(cql)).await {
                Ok(prepared) => prepared.map_err(|error| match error {
                    PrepareError::AllAttemptsFailed { first_attempt } => ExecutionError::from(first_attempt),
                    other => ExecutionError::from(other),
                }),
                Err(_) => Err(ExecutionError::RequestTimeout(self.prepare_timeout)),
            };
            prepared.map_err(|error| request_error(&single(&error), &format!("prepare {cql}"), &self.label))
        };
        cell.get_or_try_init(prepare).await.cloned()
    }

    /// The statement, sent to a node that holds the rows of this token.
    pub fn near_token(&self, prepared: &PreparedStatement, table: &TableName, token: i64) -> PreparedStatement {
        let mut prepared = prepared.clone();
        prepared.set_load_balancing_policy(Some(Arc::new(NearToken {
            table: table.clone(),
            token: Token::new(token),
            local_dc: self.local_dc.clone(),
            otherwise: Arc::clone(&self.policy),
        })));
        prepared
    }

    /// Forgets a prepared statement: its table may have changed.
    pub fn forget(&self, cql: &str) {
        lock(&self.prepared).remove(cql);
    }

    /// Runs a statement once, as the driver half does. Repeated on transient errors, so it must be idempotent.
    pub async fn run(&self, cql: &str, what: &str) -> Result<QueryResult> {
        let request = || self.session.query_unpaged(cql, ());
        let (result, _) = with_retries(&self.limiter, 3, true, request)
            .await
            .map_err(|failure| request_error(&failure, what, &self.label))?;
        Ok(result)
    }

    /// What the table looks like. `fresh` asks the cluster even when something is known.
    ///
    /// # Errors
    /// `TABLE_OR_VIEW_NOT_FOUND` is left to the caller, who may know the rows: a missing table is none. A missing
    /// keyspace is an error.
    pub async fn table(&self, name: &TableName, fresh: bool) -> Result<Option<TableSchema>> {
        let mut known = if fresh { None } else { self.known_table(name) };
        if known.is_none() {
            let failed = |why: &dyn std::fmt::Display| {
                Error::transient(
                    "CASSANDRA_UNREACHABLE",
                    format!("failed to read the schema of cassandra {}: {why}", self.label),
                )
            };
            // The driver tries every node that it knows, and queues this behind the attempts it makes by itself: while a
            // node hangs, minutes.
            match tokio::time::timeout(self.metadata_timeout, self.session.refresh_metadata()).await {
                Ok(refreshed) => refreshed.map_err(|error| failed(&error))?,
                Err(_) => return Err(failed(&format_args!("no answer within {:?}", self.metadata_timeout))),
            }
            known = self.known_table(name);
        }
        if known.is_none() && self.session.get_cluster_state().get_keyspace(&name.keyspace).is_none() {
            return Err(Error::new(
                ErrorKind::NotFound,
                "SCHEMA_NOT_FOUND",
                format!(
                    "keyspace {} does not exist on cassandra {}: check option keyspace or create it (CREATE KEYSPACE {} \
                     WITH replication = {{'class': 'SimpleStrategy', 'replication_factor': 1}})",
                    name.keyspace,
                    self.label,
                    quoted(&name.keyspace)
                ),
            ));
        }
        Ok(known)
    }

    /// The statement that creates a keyspace here: every data center holds three copies, or as many as it has nodes.
    pub fn create_keyspace(&self, keyspace: &str) -> String {
        let mut copies: BTreeMap<String, usize> = BTreeMap::new();
        for node in self.session.get_cluster_state().get_nodes_info() {
            *copies.entry(node.datacenter.clone().unwrap_or_default()).or_default() += 1;
        }
        let copies: String = copies
            .iter()
            .map(|(center, nodes)| format!(", '{}': {}", center.replace('\'', "''"), (*nodes).min(3)))
            .collect();
        format!(
            "CREATE KEYSPACE IF NOT EXISTS {} WITH replication = {{'class': 'NetworkTopologyStrategy'{copies}}}",
            quoted(keyspace)
        )
    }

    fn known_table(&self, name: &TableName) -> Option<TableSchema> {
        let state = self.session.get_cluster_state();
        let keyspace = state.get_keyspace(&name.keyspace)?;
        let (table, view) = match keyspace.tables.get(&name.table) {
            Some(table) => (table, false),
            None => (&keyspace.views.get(&name.table)?.view_metadata, true),
        };
        let mut others: Vec<&String> = table
            .columns
            .keys()
            .filter(|column| !table.partition_key.contains(column) && !table.clustering_key.contains(column))
            .collect();
        others.sort();
        let columns = table
            .partition_key
            .iter()
            .chain(&table.clustering_key)
            .chain(others)
            .filter_map(|column| {
                table.columns.get(column).map(|known| TableColumn { name: column.clone(), cql: known.typ.clone() })
            })
            .collect();
        Some(TableSchema {
            name: name.clone(),
            columns,
            partition_key: table.partition_key.clone(),
            clustering: table.clustering_key.clone(),
            view,
        })
    }

    /// Which rows of the keyspace live together.
    pub fn replicas(&self, name: &TableName) -> Arc<ReplicaMap> {
        let state = self.session.get_cluster_state();
        let mut replicas = lock(&self.replicas);
        if let Some((from, map)) = replicas.get(&name.keyspace)
            && Arc::ptr_eq(from, &state)
        {
            return Arc::clone(map);
        }
        let ring = state.replica_locator().ring().iter().map(|(token, _)| token.value());
        let owners = ring.map(|token| {
            let endpoints = state.get_token_endpoints(&name.keyspace, &name.table, Token::new(token));
            (token, endpoints.iter().map(|(node, _)| node.host_id.as_u128()).collect())
        });
        let map = Arc::new(ReplicaMap::new(owners.collect()));
        replicas.insert(name.keyspace.clone(), (state, Arc::clone(&map)));
        map
    }

    /// Tokens at which the ring's ranges end.
    pub fn ring(&self) -> Vec<i64> {
        let state = self.session.get_cluster_state();
        state.replica_locator().ring().iter().map(|(token, _)| token.value()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connectors::Options;
    use crate::connectors::cassandra::options::SinkOptions;

    #[test]
    fn sessions_that_nobody_uses_are_closed() {
        let runtime = |_| tokio::runtime::Builder::new_current_thread().build().unwrap();
        let runtimes: Vec<_> = (0..5).map(runtime).collect();
        let options = SinkOptions::parse(&Options::new([("keyspace", "k"), ("table", "t")])).unwrap();
        let key = |at: usize| (runtimes[at].handle().id(), options.connection.clone());
        let began = Instant::now();
        let later = began + UNUSED_MAX;
        let kept = |used: Instant| Kept { cell: Arc::new(OnceCell::new_with(Some(Arc::new(())))), used };
        let mut clusters = Clusters::from([
            (key(0), kept(began)),
            (key(1), kept(began)),
            (key(2), kept(began)),
            (key(3), Kept { cell: Arc::default(), used: began }),
            (key(4), kept(later)),
        ]);
        assert!(take_unused(&mut clusters, began).is_empty());
        let (held, asked_for) = (clusters[&key(1)].cell.get().cloned(), Arc::clone(&clusters[&key(2)].cell));
        assert_eq!(take_unused(&mut clusters, later).len(), 2);
        assert_eq!([0, 1, 2, 3, 4].map(|at| clusters.contains_key(&key(at))), [false, true, true, false, true]);
        drop((held, asked_for));
        assert_eq!(take_unused(&mut clusters, later).len(), 2);
    }

    #[tokio::test]
    async fn nobody_listens() {
        // Bound, never accepting past its backlog, then closed: the port refuses.
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let host = format!("127.0.0.1:{port}");
        let options = SinkOptions::parse(&Options::new([
            ("keyspace", "k"),
            ("table", "t"),
            ("spark.cassandra.connection.host", host.as_str()),
            ("spark.cassandra.connection.timeoutMS", "500"),
        ]))
        .unwrap();
        let error = cluster(&options.connection).await.unwrap_err();
        assert_eq!((error.kind, error.class.as_str()), (ErrorKind::Transient, "CASSANDRA_UNREACHABLE"));
        assert!(error.message.contains(&host), "{error}");
    }
}
