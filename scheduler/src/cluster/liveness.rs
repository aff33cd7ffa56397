//! The liveness stream: each executor holds one open; its end, or its silence, is the executor's.
//!
//! The kernel closes the connection of a killed process, so this tells of a death within milliseconds. Of a hung
//! process and a cut network the missing beats tell within 2 s ([`headwater_executor::liveness`]). A scheduler that
//! shuts down ends the streams itself: it would wait for them otherwise.

use super::{Cluster, detach};
use futures::Stream;
use headwater_executor::liveness::{BEAT, EXECUTOR_SILENT_MAX, Patience};
use headwater_proto::engine::liveness_service_server::LivenessService;
use headwater_proto::engine::{HoldRequest, HoldResponse};
use std::pin::Pin;
use std::time::Instant;
use tokio::sync::watch;
use tokio::time::{Interval, MissedTickBehavior};
use tonic::{Request, Response, Status, Streaming};

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
    type HoldStream = Pin<Box<dyn Stream<Item = Result<HoldResponse, Status>> + Send>>;

    async fn hold(&self, request: Request<Streaming<HoldRequest>>) -> Result<Response<Self::HoldStream>, Status> {
        let mut beats = request.into_inner();
        let Some(HoldRequest { executor_id }) = beats.message().await? else {
            return Err(Status::invalid_argument("the first request names the executor"));
        };
        let mut looks = tokio::time::interval(BEAT);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let held = Held {
            beats,
            looks,
            patience: Patience::new(EXECUTOR_SILENT_MAX, Instant::now()),
            stopped: self.stopped.clone(),
            lost: Lost { cluster: self.cluster.clone(), executor_id, reason: "its liveness stream ended" },
        };
        // Dropped with the connection, or by its own end.
        let beats = futures::stream::unfold(held, |mut held| async move {
            held.next().await.then_some((Ok(HoldResponse {}), held))
        });
        Ok(Response::new(Box::pin(beats)))
    }
}

struct Held {
    beats: Streaming<HoldRequest>,
    looks: Interval,
    patience: Patience,
    stopped: watch::Receiver<bool>,
    lost: Lost,
}

impl Held {
    /// Whether the executor lives, when it is time for the next beat of ours.
    async fn next(&mut self) -> bool {
        loop {
            tokio::select! {
                // What has come is heard before the clock is looked at.
                biased;
                // The sender gone is a stop as well.
                _ = self.stopped.wait_for(|stop| *stop) => return false,
                beat = self.beats.message() => match beat {
                    Ok(Some(_)) => self.patience.heard(),
                    Ok(None) | Err(_) => return false,
                },
                _ = self.looks.tick() => {
                    if self.patience.look(Instant::now()) {
                        tracing::warn!(
                            executor_id = self.lost.executor_id,
                            "an executor has been silent for {EXECUTOR_SILENT_MAX:?}: its tasks run elsewhere"
                        );
                        self.lost.reason = "it is silent";
                        return false;
                    }
                    return true;
                }
            }
        }
    }
}

/// Takes the executor out when it is dropped.
struct Lost {
    cluster: Cluster,
    executor_id: String,
    reason: &'static str,
}

impl Drop for Lost {
    fn drop(&mut self) {
        let (cluster, executor_id, reason) = (self.cluster.clone(), std::mem::take(&mut self.executor_id), self.reason);
        detach(async move { cluster.executor_lost(&executor_id, reason).await });
    }
}
