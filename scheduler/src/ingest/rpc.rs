//! gRPC service of `protos/engine/ingest.proto`.

use super::service::Ingest;
use crate::rpc;
use futures::{Stream, StreamExt};
use headwater_proto::engine::ingest_service_server::IngestService;
use headwater_proto::engine::{
    CancelIngestRequest, IngestRef, IngestRun, ListIngestRequest, ListIngestResponse, StartIngestRequest,
};
use headwater_proto::error::{Error, ErrorKind};
use headwater_proto::ingest::is_active;
use std::pin::Pin;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::metadata::MetadataValue;
use tonic::{Request, Response, Status};

/// Changes under way to a client; one that reads slower misses those in between, as each has the whole run.
const CHANGES_MAX: usize = 4;

/// Ingest runs.
pub struct IngestRpc {
    ingest: Ingest,
}

impl IngestRpc {
    /// Serves these runs.
    pub fn new(ingest: Ingest) -> Self {
        Self { ingest }
    }
}

/// A status as everywhere, with the error's class and kind where a program finds them.
fn status(error: Error) -> Status {
    let kind = match error.kind {
        ErrorKind::Transient => "TRANSIENT",
        ErrorKind::InvalidRequest => "INVALID_REQUEST",
        ErrorKind::NotFound => "NOT_FOUND",
        ErrorKind::AlreadyExists => "ALREADY_EXISTS",
        ErrorKind::Fatal => "FATAL",
        ErrorKind::Internal => "INTERNAL",
    };
    let class = MetadataValue::try_from(error.class.as_str());
    let mut status = rpc::status(error);
    let metadata = status.metadata_mut();
    metadata.insert("headwater-error-kind", MetadataValue::from_static(kind));
    // Classes are ASCII; one that is not is still in the message.
    if let Ok(class) = class {
        metadata.insert("headwater-error-class", class);
    }
    status
}

#[tonic::async_trait]
impl IngestService for IngestRpc {
    async fn start(&self, request: Request<StartIngestRequest>) -> Result<Response<IngestRun>, Status> {
        self.ingest.start(request.into_inner()).await.map(Response::new).map_err(status)
    }

    async fn get(&self, request: Request<IngestRef>) -> Result<Response<IngestRun>, Status> {
        self.ingest.get(&request.into_inner().run_id).await.map(Response::new).map_err(status)
    }

    async fn list(&self, request: Request<ListIngestRequest>) -> Result<Response<ListIngestResponse>, Status> {
        let runs = self.ingest.list(request.into_inner().limit).await.map_err(status)?;
        Ok(Response::new(ListIngestResponse { runs }))
    }

    type WatchStream = Pin<Box<dyn Stream<Item = Result<IngestRun, Status>> + Send>>;

    async fn watch(&self, request: Request<IngestRef>) -> Result<Response<Self::WatchStream>, Status> {
        let (mut run, mut changes) = self.ingest.watch(&request.into_inner().run_id).await.map_err(status)?;
        let (sender, receiver) = mpsc::channel(CHANGES_MAX);
        // Ends with the run, or with the client.
        tokio::spawn(async move {
            loop {
                let last = !is_active(run.state());
                if sender.send(Ok(run)).await.is_err() || last {
                    return;
                }
                run = tokio::select! {
                    () = sender.closed() => return,
                    changed = changes.next() => match changed {
                        Ok(run) => run,
                        Err(error) => {
                            // A client that has gone in this moment does not hear of it.
                            let _ = sender.send(Err(status(error))).await;
                            return;
                        }
                    },
                };
            }
        });
        Ok(Response::new(ReceiverStream::new(receiver).boxed()))
    }

    async fn cancel(&self, request: Request<CancelIngestRequest>) -> Result<Response<IngestRun>, Status> {
        let CancelIngestRequest { run_id, owner } = request.into_inner();
        self.ingest.cancel(&run_id, &owner).await.map(Response::new).map_err(status)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_find_the_class() {
        let status = status(Error::new(ErrorKind::AlreadyExists, "INGEST_RUN_EXISTS", "run r exists"));
        assert_eq!(status.code(), tonic::Code::AlreadyExists);
        assert_eq!(status.metadata().get("headwater-error-class").expect("a class"), "INGEST_RUN_EXISTS");
        assert_eq!(status.metadata().get("headwater-error-kind").expect("a kind"), "ALREADY_EXISTS");
        assert_eq!(status.message(), "[INGEST_RUN_EXISTS] run r exists");
    }
}
