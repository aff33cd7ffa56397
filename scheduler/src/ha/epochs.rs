//! Numbered leaderships, in the state directory: `ha/epochs/<N>` is created if absent, and its creator leads until
//! there is `ha/epochs/<N+1>`. They are never deleted: a leader that wakes up late must find its successor's.

use super::lease::REQUEST_MAX;
use bytes::Bytes;
use headwater_proto::error::{Error, Result};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutMode, PutPayload};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::sync::Arc;
use uuid::Uuid;

/// Who leads.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Leader {
    /// Made up at the start of the process.
    pub holder: Uuid,
    /// `host:port` of its gRPC.
    pub address: String,
    /// For people: host and process id.
    pub process: String,
}

impl fmt::Display for Leader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.address, self.process)
    }
}

/// A right to write that others can compare: the state directory's id and the number of the leadership.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Claim {
    /// Of the state directory; epochs of different ones cannot be compared.
    pub cluster: Uuid,
    /// Of the leadership, from 1.
    pub epoch: u64,
}

impl fmt::Display for Claim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.cluster, self.epoch)
    }
}

impl std::str::FromStr for Claim {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (cluster, epoch) = text.split_once('/').ok_or(())?;
        Ok(Self { cluster: cluster.parse().map_err(drop)?, epoch: epoch.parse().map_err(drop)? })
    }
}

/// The files.
#[derive(Debug, Clone)]
pub struct Epochs {
    store: Arc<dyn ObjectStore>,
    folder: Path,
}

#[derive(Serialize, Deserialize)]
struct ClusterFile {
    id: Uuid,
}

impl Epochs {
    /// Below `root` of a store.
    pub fn new(store: Arc<dyn ObjectStore>, root: &Path) -> Self {
        Self { store, folder: root.clone().join("ha") }
    }

    /// The state directory's id, made up by whoever asks first.
    pub async fn cluster(&self) -> Result<Uuid> {
        let path = self.folder.clone().join("cluster");
        if self.read(&path).await?.is_none() {
            let bytes = serde_json::to_vec(&ClusterFile { id: Uuid::new_v4() }).map_err(Error::internal)?;
            // Another's is as good.
            self.create(&path, bytes.into()).await?;
        }
        let bytes = self.read(&path).await?.ok_or_else(|| unavailable(&path, &"it has vanished"))?;
        let file: ClusterFile = serde_json::from_slice(&bytes).map_err(|e| corrupt(&path, &e))?;
        Ok(file.id)
    }

    /// The latest epoch and its holder.
    pub async fn latest(&self) -> Result<Option<(u64, Leader)>> {
        let folder = self.folder.clone().join("epochs");
        let listed = bounded(&folder, self.store.list_with_delimiter(Some(&folder))).await?;
        let ids = listed.iter().flat_map(|listed| &listed.objects);
        let Some(epoch) = ids.filter_map(|file| file.location.filename()?.parse::<u64>().ok()).max() else {
            return Ok(None);
        };
        let path = self.epoch(epoch);
        let bytes = self.read(&path).await?.ok_or_else(|| unavailable(&path, &"it has vanished"))?;
        Ok(Some((epoch, serde_json::from_slice(&bytes).map_err(|e| corrupt(&path, &e))?)))
    }

    /// Makes `leader` the holder of `epoch`; false when it has one already.
    pub async fn claim(&self, epoch: u64, leader: &Leader) -> Result<bool> {
        let bytes: Bytes = serde_json::to_vec(leader).map_err(Error::internal)?.into();
        if self.create(&self.epoch(epoch), bytes).await? {
            return Ok(true);
        }
        // Ours, when it was the answer that was lost.
        Ok(self.holder(epoch).await?.is_some_and(|holder| holder == *leader))
    }

    /// The holder of an epoch, if it has been claimed.
    pub async fn holder(&self, epoch: u64) -> Result<Option<Leader>> {
        let path = self.epoch(epoch);
        let Some(bytes) = self.read(&path).await? else { return Ok(None) };
        Ok(Some(serde_json::from_slice(&bytes).map_err(|e| corrupt(&path, &e))?))
    }

    /// What the holder of an epoch said last, if it has said anything.
    pub async fn heartbeat(&self, epoch: u64) -> Result<Option<Bytes>> {
        self.read(&self.beat(epoch)).await
    }

    /// Says something as the holder of an epoch. Nobody else writes there.
    pub async fn write_heartbeat(&self, epoch: u64, bytes: Vec<u8>) -> Result<()> {
        let path = self.beat(epoch);
        bounded(&path, self.store.put(&path, bytes.into()))
            .await?
            .map(drop)
            .ok_or_else(|| unavailable(&path, &"not found"))
    }

    fn epoch(&self, epoch: u64) -> Path {
        self.folder.clone().join("epochs").join(epoch.to_string())
    }
    fn beat(&self, epoch: u64) -> Path {
        self.folder.clone().join("heartbeats").join(epoch.to_string())
    }

    /// False when something is there.
    async fn create(&self, path: &Path, bytes: Bytes) -> Result<bool> {
        let put = self.store.put_opts(path, PutPayload::from(bytes), PutMode::Create.into());
        match tokio::time::timeout(REQUEST_MAX, put).await {
            Ok(Ok(_)) => Ok(true),
            Ok(Err(object_store::Error::AlreadyExists { .. } | object_store::Error::Precondition { .. })) => Ok(false),
            Ok(Err(error)) => Err(unavailable(path, &error)),
            Err(_) => Err(unavailable(path, &"no answer in time")),
        }
    }

    async fn read(&self, path: &Path) -> Result<Option<Bytes>> {
        bounded(path, async { self.store.get(path).await?.bytes().await }).await
    }
}

/// A request's answer, none for what is not there.
async fn bounded<T>(path: &Path, request: impl Future<Output = object_store::Result<T>>) -> Result<Option<T>> {
    match tokio::time::timeout(REQUEST_MAX, request).await {
        Ok(Ok(answer)) => Ok(Some(answer)),
        Ok(Err(object_store::Error::NotFound { .. })) => Ok(None),
        Ok(Err(error)) => Err(unavailable(path, &error)),
        Err(_) => Err(unavailable(path, &format!("no answer within {REQUEST_MAX:?}"))),
    }
}

fn unavailable(path: &Path, reason: &dyn fmt::Display) -> Error {
    Error::transient("STATE_DIRECTORY_UNAVAILABLE", format!("failed to access {path} in the state directory: {reason}"))
}

fn corrupt(path: &Path, reason: &dyn fmt::Display) -> Error {
    Error::fatal(
        "STATE_DIRECTORY_CORRUPT",
        format!("{path} in the state directory cannot be read: {reason}; stop all schedulers, then remove it"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use object_store::memory::InMemory;

    fn leader(address: &str) -> Leader {
        Leader { holder: Uuid::new_v4(), address: address.into(), process: "p".into() }
    }

    #[tokio::test]
    async fn an_epoch_has_one_holder() {
        let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
        let epochs = Epochs::new(store, &Path::from("s"));
        let (one, two) = (leader("one:1"), leader("two:2"));
        assert_eq!(epochs.latest().await.unwrap(), None);
        assert!(epochs.claim(9, &one).await.unwrap());
        assert!(epochs.claim(9, &one).await.unwrap(), "the answer was lost");
        assert!(!epochs.claim(9, &two).await.unwrap());
        assert!(epochs.claim(10, &two).await.unwrap());
        // By number, not by text.
        assert_eq!(epochs.latest().await.unwrap(), Some((10, two)));
        assert_eq!(epochs.holder(9).await.unwrap(), Some(one));
        assert_eq!(epochs.holder(11).await.unwrap(), None);
        let cluster = epochs.cluster().await.unwrap();
        assert_eq!(epochs.cluster().await.unwrap(), cluster);
        let claim = Claim { cluster, epoch: 10 };
        assert_eq!(claim.to_string().parse(), Ok(claim));
        assert_eq!("10".parse::<Claim>(), Err(()));
    }
}
