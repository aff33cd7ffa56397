//! `--ha state-dir`: the leader counts in `ha/heartbeats/<N>`, standbys look whether it still does.

use super::Life;
use super::epochs::Epochs;
use super::lease::{LEASE, Look, Sign, Watch};
use headwater_proto::error::{Error, Result};
use serde::{Deserialize, Serialize};
use std::time::Instant;

/// What a heartbeat says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Heartbeat {
    beat: u64,
    #[serde(default)]
    released: bool,
}

/// See the module.
pub(super) struct StateDir {
    epochs: Epochs,
    watch: Watch,
    /// The latest look at each epoch, for [`Life::settle`].
    looked: Option<Look>,
    beat: u64,
}

impl StateDir {
    pub fn new(epochs: Epochs) -> Self {
        Self { epochs, watch: Watch::default(), looked: None, beat: 0 }
    }

    async fn read(&self, epoch: u64) -> Result<Look> {
        // One that cannot be read says nothing: a leader that lives overwrites it.
        let heartbeat = self.epochs.heartbeat(epoch).await?;
        let heartbeat = heartbeat.and_then(|bytes| {
            let read = serde_json::from_slice::<Heartbeat>(&bytes);
            read.inspect_err(
                |error| tracing::warn!(epoch, %error, "a leader's heartbeat cannot be read: it counts as silent"),
            )
            .ok()
        });
        Ok(Look {
            epoch,
            beat: heartbeat.map(|heartbeat| heartbeat.beat),
            released: heartbeat.is_some_and(|heartbeat| heartbeat.released),
        })
    }

    async fn write(&self, epoch: u64, released: bool) -> Result<()> {
        let bytes = serde_json::to_vec(&Heartbeat { beat: self.beat, released }).map_err(Error::internal)?;
        self.epochs.write_heartbeat(epoch, bytes).await
    }
}

#[async_trait::async_trait]
impl Life for StateDir {
    async fn look(&mut self, epoch: Option<u64>, ours: bool) -> Result<Sign> {
        let Some(epoch) = epoch.filter(|_| !ours) else { return Ok(Sign::Gone) };
        let asked = Instant::now();
        let look = self.read(epoch).await?;
        self.looked = Some(look);
        Ok(self.watch.observe(look, asked, Instant::now()))
    }

    async fn settle(&mut self, epoch: u64) -> Result<()> {
        let look = self.read(epoch).await?;
        if self.looked != Some(look) && !look.released {
            tracing::warn!(epoch, "the former leader lives after all; it learns of its successor within seconds");
            tokio::time::sleep(LEASE).await;
        }
        Ok(())
    }

    async fn beat(&mut self, epoch: u64) -> Result<()> {
        self.beat += 1;
        self.write(epoch, false).await
    }

    async fn release(&mut self, epoch: u64) -> Result<()> {
        self.beat += 1;
        self.write(epoch, true).await
    }
}
