//! The connection to a scheduler: finding the one that leads, connecting within a bound, and telling a scheduler that is
//! gone from one that refuses.

use futures::future::join_all;
use headwater_proto::engine::ingest_service_client::IngestServiceClient;
use headwater_proto::engine::query_service_client::QueryServiceClient;
use headwater_proto::engine::sql_service_client::SqlServiceClient;
use headwater_proto::engine::{
    CancelIngestRequest, EndpointsRequest, EndpointsResponse, IngestRef, IngestRun, ListIngestRequest, ListRequest,
    ProgressReport, ProgressRequest, QueryRef, QueryStatus, StartIngestRequest, SubmitRequest, SubmitResponse,
};
use std::error::Error as _;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status, Streaming};

/// Where a scheduler listens unless told otherwise.
pub const DEFAULT_SCHEDULER: &str = "127.0.0.1:50050";
/// A scheduler on the same network accepts within milliseconds; a wrong address should be known soon.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// A scheduler that vanished without closing the connection is noticed after at most the sum of both.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(3);
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(5);
/// One of several schedulers that leads says so within milliseconds; one that hangs should hold nobody up.
const ASK_MAX: Duration = Duration::from_secs(1);
/// While one of several schedulers takes over there is no leader. That takes 10 s.
const FIND_MAX: Duration = Duration::from_secs(20);
const FIND_PAUSE: Duration = Duration::from_millis(250);
/// In front of what a standby says.
const STANDBY: &str = "[SCHEDULER_STANDBY]";
/// Larger than any piece of a result that a scheduler sends, small enough to stop a runaway.
const MESSAGE_BYTES_MAX: usize = 256 * 1024 * 1024;

/// Why a call did not give what it should.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Not HOST:PORT.
    #[error("[INVALID_ADDRESS] {address:?} is no address of a scheduler: give HOST:PORT, as {DEFAULT_SCHEDULER}")]
    BadAddress {
        /// What was given.
        address: String,
    },
    /// Nobody answered.
    #[error(
        "[NO_SCHEDULER] no scheduler at {addresses} ({cause}): start one with: headwater standalone; or name one with \
         --scheduler HOST:PORT or HEADWATER_SCHEDULER"
    )]
    Unreachable {
        /// The addresses tried.
        addresses: String,
        /// What the last of them said.
        cause: String,
    },
    /// The connection broke while a call ran.
    #[error("[SCHEDULER_LOST] lost the scheduler at {address} ({cause}): queries resume by themselves when it is back")]
    Lost {
        /// The scheduler.
        address: String,
        /// What the transport said.
        cause: String,
    },
    /// It stands by; another leads, or will.
    #[error("{0}")]
    Standby(String),
    /// The scheduler answered with an error; it says what to do.
    #[error("{}", refusal(.0))]
    Refused(Box<Status>),
}

/// The scheduler's text; gRPC's own word for an empty one.
fn refusal(status: &Status) -> String {
    match status.message() {
        "" => format!("[{:?}] the scheduler gave no reason", status.code()),
        message => message.to_string(),
    }
}

impl Error {
    /// Whether the scheduler is away, rather than there and refusing.
    pub fn is_away(&self) -> bool {
        matches!(self, Self::Unreachable { .. } | Self::Lost { .. } | Self::Standby(_))
    }
}

/// A connected scheduler. Cheap to clone; clones share the connection, which reconnects by itself.
#[derive(Debug, Clone)]
pub struct Remote {
    /// Of the schedulers of the cluster, one of which leads.
    addresses: Arc<[String]>,
    connection: Arc<RwLock<Connection>>,
}

#[derive(Debug, Clone)]
struct Connection {
    address: String,
    channel: Channel,
}

impl Remote {
    /// Connects to the one of `addresses` (HOST:PORT, several by comma) that leads; while one of several takes over it
    /// is waited for.
    ///
    /// # Errors
    /// [`Error::BadAddress`], [`Error::Unreachable`], [`Error::Standby`].
    pub async fn connect(addresses: &str) -> Result<Self, Error> {
        let addresses: Arc<[String]> =
            addresses.split(',').map(str::trim).filter(|address| !address.is_empty()).map(str::to_string).collect();
        let began = Instant::now();
        loop {
            match find(&addresses).await {
                Ok(connection) => return Ok(Self { addresses, connection: Arc::new(RwLock::new(connection)) }),
                Err(error) if addresses.len() > 1 && error.is_away() && began.elapsed() < FIND_MAX => {
                    tokio::time::sleep(FIND_PAUSE).await;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Looks again which of several schedulers leads, once, and talks to that one from here on. With one address there
    /// is nothing to look for: its connection comes back by itself.
    ///
    /// # Errors
    /// None leads at the moment.
    pub async fn find_again(&self) -> Result<(), Error> {
        if self.addresses.len() > 1 {
            let connection = find(&self.addresses).await?;
            *self.connection.write().unwrap_or_else(PoisonError::into_inner) = connection;
        }
        Ok(())
    }

    fn connection(&self) -> Connection {
        // Replaced as a whole.
        self.connection.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The scheduler's address.
    pub fn address(&self) -> String {
        self.connection().address
    }

    fn queries(&self) -> QueryServiceClient<Channel> {
        QueryServiceClient::new(self.connection().channel).max_decoding_message_size(MESSAGE_BYTES_MAX)
    }

    fn ingest(&self) -> IngestServiceClient<Channel> {
        IngestServiceClient::new(self.connection().channel).max_decoding_message_size(MESSAGE_BYTES_MAX)
    }

    /// SQL on the cluster.
    pub fn sql(&self) -> SqlServiceClient<Channel> {
        SqlServiceClient::new(self.connection().channel).max_decoding_message_size(MESSAGE_BYTES_MAX)
    }

    /// Where the scheduler serves what is not on this port.
    pub async fn endpoints(&self) -> Result<EndpointsResponse, Error> {
        self.answer(self.queries().endpoints(EndpointsRequest {}).await)
    }
    /// Runs the statements of a text; flows start.
    pub async fn submit(&self, request: SubmitRequest) -> Result<SubmitResponse, Error> {
        self.answer(self.queries().submit(request).await)
    }
    /// All queries.
    pub async fn list(&self) -> Result<Vec<QueryStatus>, Error> {
        Ok(self.answer(self.queries().list(ListRequest {}).await)?.queries)
    }
    /// One query, by id, unique prefix of an id, or name.
    pub async fn get(&self, query: &str) -> Result<QueryStatus, Error> {
        self.answer(self.queries().get(reference(query)).await)
    }
    /// Stops a query; its checkpoint stays.
    pub async fn stop(&self, query: &str) -> Result<QueryStatus, Error> {
        self.answer(self.queries().stop(reference(query)).await)
    }
    /// Starts a query again from its checkpoint.
    pub async fn restart(&self, query: &str) -> Result<QueryStatus, Error> {
        self.answer(self.queries().restart(reference(query)).await)
    }
    /// Removes a query that is not active, its checkpoint included.
    pub async fn delete(&self, query: &str) -> Result<QueryStatus, Error> {
        self.answer(self.queries().delete(reference(query)).await)
    }
    /// Recent progress reports, then, with `follow`, each new one until the query is no longer active.
    pub async fn progress(&self, query: &str, follow: bool) -> Result<Reports, Error> {
        let request = ProgressRequest { r#ref: query.to_string(), follow };
        Ok(Reports { reports: self.answer(self.queries().progress(request).await)?, remote: self.clone() })
    }

    /// Starts an ingest run, or finds it.
    pub async fn ingest_start(&self, request: StartIngestRequest) -> Result<IngestRun, Error> {
        self.answer(self.ingest().start(request).await)
    }
    /// One ingest run.
    pub async fn ingest_get(&self, run: &str) -> Result<IngestRun, Error> {
        self.answer(self.ingest().get(run_reference(run)).await)
    }
    /// Ingest runs, newest first.
    pub async fn ingest_list(&self, limit: u32) -> Result<Vec<IngestRun>, Error> {
        Ok(self.answer(self.ingest().list(ListIngestRequest { limit }).await)?.runs)
    }
    /// An ingest run, now and after each change, until it has ended.
    pub async fn ingest_watch(&self, run: &str) -> Result<Streaming<IngestRun>, Error> {
        self.answer(self.ingest().watch(run_reference(run)).await)
    }
    /// Cancels an ingest run.
    pub async fn ingest_cancel(&self, run: &str) -> Result<IngestRun, Error> {
        let request = CancelIngestRequest { run_id: run.to_string(), owner: String::new() };
        self.answer(self.ingest().cancel(request).await)
    }

    pub(crate) fn answer<T>(&self, answer: Result<tonic::Response<T>, Status>) -> Result<T, Error> {
        answer.map(tonic::Response::into_inner).map_err(|status| self.error(status))
    }

    /// A status that the client's own transport made has a source; one that the scheduler sent has none.
    pub(crate) fn error(&self, status: Status) -> Error {
        let transport = status.source().map(root_cause);
        match (transport, status.code()) {
            (Some(cause), _) => Error::Lost { address: self.address(), cause },
            (None, Code::Unavailable) if status.message().starts_with(STANDBY) => {
                Error::Standby(status.message().to_string())
            }
            // The second is tonic's, of what answers HTTP.
            (None, code)
                if code == Code::Unimplemented && status.message().is_empty()
                    || status.message().starts_with("grpc-status header missing") =>
            {
                Error::Unreachable {
                    addresses: self.address(),
                    cause: "what listens there is no scheduler of this version".into(),
                }
            }
            (None, _) => Error::Refused(Box::new(status)),
        }
    }
}

/// Progress reports of one query, as they come.
pub struct Reports {
    reports: Streaming<ProgressReport>,
    remote: Remote,
}

impl Reports {
    /// The next report; none when the scheduler has ended the stream.
    pub async fn next(&mut self) -> Result<Option<ProgressReport>, Error> {
        self.reports.message().await.map_err(|status| self.remote.error(status))
    }
}

fn run_reference(run: &str) -> IngestRef {
    IngestRef { run_id: run.to_string() }
}

fn reference(query: &str) -> QueryRef {
    QueryRef { r#ref: query.to_string() }
}

/// Which of the schedulers leads. A single one is not asked: it says so itself when it does not.
async fn find(addresses: &[String]) -> Result<Connection, Error> {
    let unreachable = |cause: String| Error::Unreachable { addresses: addresses.join(","), cause };
    let endpoints = addresses.iter().map(|address| endpoint(address)).collect::<Result<Vec<_>, _>>()?;
    let found = match (addresses, &endpoints[..]) {
        ([address], [endpoint]) => {
            let channel = endpoint.connect().await.map_err(|error| unreachable(root_cause(&error)))?;
            return Ok(Connection { address: address.clone(), channel });
        }
        _ => join_all(endpoints.iter().map(ask)).await,
    };
    let mut leader: Option<(u64, Connection)> = None;
    let mut reason = unreachable("no address was given".into());
    for (address, answer) in addresses.iter().zip(found) {
        match answer {
            // Of two that believe to lead the later is right.
            Ok((epoch, channel)) if leader.as_ref().is_none_or(|(best, _)| epoch > *best) => {
                leader = Some((epoch, Connection { address: address.clone(), channel }));
            }
            Ok(_) => {}
            // A standby knows more than one that is away.
            Err(cause) if cause.starts_with(STANDBY) => reason = Error::Standby(cause),
            Err(cause) if !matches!(reason, Error::Standby(_)) => reason = unreachable(cause),
            Err(_) => {}
        }
    }
    leader.map(|(_, connection)| connection).ok_or(reason)
}

/// A connection to a scheduler that leads, and the number of its leadership; else why not.
async fn ask(endpoint: &Endpoint) -> Result<(u64, Channel), String> {
    let asked = async {
        let channel = endpoint.connect().await.map_err(|error| root_cause(&error))?;
        match QueryServiceClient::new(channel.clone()).endpoints(EndpointsRequest {}).await {
            Ok(endpoints) => Ok((endpoints.into_inner().epoch, channel)),
            Err(status) => Err(status.source().map_or_else(|| refusal(&status), root_cause)),
        }
    };
    tokio::time::timeout(ASK_MAX, asked).await.unwrap_or_else(|_| Err(format!("no answer within {ASK_MAX:?}")))
}

fn endpoint(address: &str) -> Result<Endpoint, Error> {
    let bad = || Error::BadAddress { address: address.to_string() };
    let bare = address.strip_prefix("http://").unwrap_or(address);
    let (host, port) = bare.rsplit_once(':').ok_or_else(bad)?;
    if host.is_empty() || port.parse::<u16>().is_err() || host.contains('/') {
        return Err(bad());
    }
    Ok(Endpoint::from_shared(format!("http://{bare}"))
        .map_err(|_| bad())?
        .connect_timeout(CONNECT_TIMEOUT)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(KEEP_ALIVE_INTERVAL)
        .keep_alive_timeout(KEEP_ALIVE_TIMEOUT)
        .keep_alive_while_idle(true))
}

/// The innermost cause: tonic's own words ("transport error") say nothing.
fn root_cause(error: &(dyn std::error::Error + 'static)) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        fn check(address: &str, good: bool) {
            assert_eq!(endpoint(address).is_ok(), good, "{address:?}");
        }
        check("localhost:50050", true);
        check("[::1]:50050", true);
        check("http://localhost:50050", true);
        check("localhost", false);
        check(":50050", false);
        check("localhost:many", false);
        check("localhost:70000", false);
        check("a b:1", false);
    }

    #[tokio::test]
    async fn nobody_there() {
        let error = Remote::connect("127.0.0.1:1").await.expect_err("nothing listens on port 1");
        assert!(error.is_away());
        assert!(error.to_string().contains("headwater standalone"), "{error}");
        let error = Remote::connect(" , ").await.expect_err("there is no address");
        assert!(error.to_string().contains("no address was given"), "{error}");
        let two = ["127.0.0.1:1".to_string(), "127.0.0.1:2".to_string()];
        assert!(find(&two).await.expect_err("nothing listens there").is_away());
    }

    #[test]
    fn refusals() {
        fn check(status: Status, expect: &str) {
            assert_eq!(Error::Refused(Box::new(status)).to_string(), expect);
        }
        check(Status::not_found("[QUERY_NOT_FOUND] no query x"), "[QUERY_NOT_FOUND] no query x");
        check(Status::internal(""), "[Internal] the scheduler gave no reason");
    }
}
