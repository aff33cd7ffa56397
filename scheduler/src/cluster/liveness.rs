//! The liveness stream: each executor holds one open; its end is the executor's.
//!
//! The kernel closes the connection of a killed process, so this tells of a death within milliseconds. A hung process
//! and a cut network are left to the heartbeat's timeout. A scheduler that shuts down ends the streams itself: it would
//! wait for them otherwise.

use super::{Cluster, detach};
use futures::Stream;
use futures::future::BoxFuture;
use headwater_proto::engine::liveness_service_server::LivenessService;
use headwater_proto::engine::{HoldRequest, HoldResponse};
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::sync::watch;
use tonic::{Request, Response, Status};

/// Serves the stream.
pub struct Liveness {
    cluster: Cluster,
    stopped: watch::Receiver<bool>,
}

impl Liveness {
    /// Streams end when `stopped` turns true.
    pub fn new(cluster: Cluster, stopped: watch::Receiver<bool>) -> Self {
        Self { cluster, stopped }
    }
}

#[tonic::async_trait]
impl LivenessService for Liveness {
    type HoldStream = Held;

    async fn hold(&self, request: Request<HoldRequest>) -> Result<Response<Held>, Status> {
        let executor_id = request.into_inner().executor_id;
        let mut stopped = self.stopped.clone();
        let end = Box::pin(async move {
            // The sender gone is a stop as well.
            let _ = stopped.wait_for(|stop| *stop).await;
        });
        Ok(Response::new(Held { cluster: self.cluster.clone(), executor_id, end }))
    }
}

/// Yields nothing; dropped with the connection.
pub struct Held {
    cluster: Cluster,
    executor_id: String,
    end: BoxFuture<'static, ()>,
}

impl Stream for Held {
    type Item = Result<HoldResponse, Status>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.end.as_mut().poll(context).map(|()| None)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let (cluster, executor_id) = (self.cluster.clone(), std::mem::take(&mut self.executor_id));
        detach(async move { cluster.executor_lost(&executor_id, "its liveness stream ended").await });
    }
}
