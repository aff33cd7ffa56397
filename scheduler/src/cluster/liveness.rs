//! The liveness stream: each executor holds one open; its end is the executor's.
//!
//! The kernel closes the connection of a killed process, so this tells of a death within milliseconds. A hung process
//! and a cut network are left to the heartbeat's timeout.

use super::Cluster;
use futures::Stream;
use headwater_proto::engine::liveness_service_server::LivenessService;
use headwater_proto::engine::{HoldRequest, HoldResponse};
use std::pin::Pin;
use std::task::{Context, Poll};
use tonic::{Request, Response, Status};

/// Serves the stream.
pub struct Liveness(pub Cluster);

#[tonic::async_trait]
impl LivenessService for Liveness {
    type HoldStream = Held;

    async fn hold(&self, request: Request<HoldRequest>) -> Result<Response<Held>, Status> {
        let executor_id = request.into_inner().executor_id;
        Ok(Response::new(Held { cluster: self.0.clone(), executor_id }))
    }
}

/// Never yields; dropped with the connection.
pub struct Held {
    cluster: Cluster,
    executor_id: String,
}

impl Stream for Held {
    type Item = Result<HoldResponse, Status>;

    fn poll_next(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        Poll::Pending
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let (cluster, executor_id) = (self.cluster.clone(), std::mem::take(&mut self.executor_id));
        // At shutdown the runtime may be gone already, and with it whoever would care.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move { cluster.executor_lost(&executor_id, "its liveness stream ended").await });
        }
    }
}
