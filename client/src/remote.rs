//! The connection to a scheduler: connecting within a bound, and telling a scheduler that is gone from one that refuses.

use headwater_proto::engine::ingest_service_client::IngestServiceClient;
use headwater_proto::engine::query_service_client::QueryServiceClient;
use headwater_proto::engine::sql_service_client::SqlServiceClient;
use headwater_proto::engine::{
    CancelIngestRequest, EndpointsRequest, EndpointsResponse, IngestRef, IngestRun, ListIngestRequest, ListRequest,
    ProgressReport, ProgressRequest, QueryRef, QueryStatus, StartIngestRequest, SubmitRequest, SubmitResponse,
};
use std::error::Error as _;
use std::time::Duration;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status, Streaming};

/// Where a scheduler listens unless told otherwise.
pub const DEFAULT_SCHEDULER: &str = "127.0.0.1:50050";
/// A scheduler on the same network accepts within milliseconds; a wrong address should be known soon.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// A scheduler that vanished without closing the connection is noticed after at most the sum of both.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(10);
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(10);
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
        matches!(self, Self::Unreachable { .. } | Self::Lost { .. })
    }
}

/// A connected scheduler. Cheap to clone; clones share the connection, which reconnects by itself.
#[derive(Debug, Clone)]
pub struct Remote {
    address: String,
    queries: QueryServiceClient<Channel>,
    sql: SqlServiceClient<Channel>,
    ingest: IngestServiceClient<Channel>,
}

impl Remote {
    /// Connects to the first of `addresses` (HOST:PORT, several by comma) that answers.
    ///
    /// # Errors
    /// [`Error::BadAddress`], [`Error::Unreachable`].
    pub async fn connect(addresses: &str) -> Result<Self, Error> {
        let mut cause = String::from("no address was given");
        for address in addresses.split(',').map(str::trim).filter(|address| !address.is_empty()) {
            match endpoint(address)?.connect().await {
                Ok(channel) => {
                    return Ok(Self {
                        address: address.to_string(),
                        queries: QueryServiceClient::new(channel.clone()).max_decoding_message_size(MESSAGE_BYTES_MAX),
                        ingest: IngestServiceClient::new(channel.clone()).max_decoding_message_size(MESSAGE_BYTES_MAX),
                        sql: SqlServiceClient::new(channel).max_decoding_message_size(MESSAGE_BYTES_MAX),
                    });
                }
                Err(error) => cause = root_cause(&error),
            }
        }
        Err(Error::Unreachable { addresses: addresses.to_string(), cause })
    }

    /// The scheduler's address.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// SQL on the cluster.
    pub fn sql(&self) -> SqlServiceClient<Channel> {
        self.sql.clone()
    }

    /// Where the scheduler serves what is not on this port.
    pub async fn endpoints(&self) -> Result<EndpointsResponse, Error> {
        self.answer(self.queries.clone().endpoints(EndpointsRequest {}).await)
    }
    /// Runs the statements of a text; flows start.
    pub async fn submit(&self, request: SubmitRequest) -> Result<SubmitResponse, Error> {
        self.answer(self.queries.clone().submit(request).await)
    }
    /// All queries.
    pub async fn list(&self) -> Result<Vec<QueryStatus>, Error> {
        Ok(self.answer(self.queries.clone().list(ListRequest {}).await)?.queries)
    }
    /// One query, by id, unique prefix of an id, or name.
    pub async fn get(&self, query: &str) -> Result<QueryStatus, Error> {
        self.answer(self.queries.clone().get(reference(query)).await)
    }
    /// Stops a query; its checkpoint stays.
    pub async fn stop(&self, query: &str) -> Result<QueryStatus, Error> {
        self.answer(self.queries.clone().stop(reference(query)).await)
    }
    /// Starts a query again from its checkpoint.
    pub async fn restart(&self, query: &str) -> Result<QueryStatus, Error> {
        self.answer(self.queries.clone().restart(reference(query)).await)
    }
    /// Removes a query that is not active, its checkpoint included.
    pub async fn delete(&self, query: &str) -> Result<QueryStatus, Error> {
        self.answer(self.queries.clone().delete(reference(query)).await)
    }
    /// Recent progress reports, then, with `follow`, each new one until the query is no longer active.
    pub async fn progress(&self, query: &str, follow: bool) -> Result<Reports, Error> {
        let request = ProgressRequest { r#ref: query.to_string(), follow };
        Ok(Reports { reports: self.answer(self.queries.clone().progress(request).await)?, remote: self.clone() })
    }

    /// Starts an ingest run, or finds it.
    pub async fn ingest_start(&self, request: StartIngestRequest) -> Result<IngestRun, Error> {
        self.answer(self.ingest.clone().start(request).await)
    }
    /// One ingest run.
    pub async fn ingest_get(&self, run: &str) -> Result<IngestRun, Error> {
        self.answer(self.ingest.clone().get(run_reference(run)).await)
    }
    /// Ingest runs, newest first.
    pub async fn ingest_list(&self, limit: u32) -> Result<Vec<IngestRun>, Error> {
        Ok(self.answer(self.ingest.clone().list(ListIngestRequest { limit }).await)?.runs)
    }
    /// An ingest run, now and after each change, until it has ended.
    pub async fn ingest_watch(&self, run: &str) -> Result<Streaming<IngestRun>, Error> {
        self.answer(self.ingest.clone().watch(run_reference(run)).await)
    }
    /// Cancels an ingest run.
    pub async fn ingest_cancel(&self, run: &str) -> Result<IngestRun, Error> {
        let request = CancelIngestRequest { run_id: run.to_string(), owner: String::new() };
        self.answer(self.ingest.clone().cancel(request).await)
    }

    pub(crate) fn answer<T>(&self, answer: Result<tonic::Response<T>, Status>) -> Result<T, Error> {
        answer.map(tonic::Response::into_inner).map_err(|status| self.error(status))
    }

    /// A status that the client's own transport made has a source; one that the scheduler sent has none.
    pub(crate) fn error(&self, status: Status) -> Error {
        let transport = status.source().map(root_cause);
        match (transport, status.code()) {
            (Some(cause), _) => Error::Lost { address: self.address.clone(), cause },
            (None, Code::Unimplemented) if status.message().is_empty() => Error::Lost {
                address: self.address.clone(),
                cause: "what listens there is no scheduler of this version".into(),
            },
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
        let error = Remote::connect("127.0.0.1:1, 127.0.0.1:2").await.expect_err("nothing listens on port 1");
        assert!(error.is_away());
        assert!(error.to_string().contains("headwater standalone"), "{error}");
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
