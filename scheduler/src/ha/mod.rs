//! Which of the schedulers of a state directory leads, and what stops the others from writing:
//! docs/design/0002-high-availability.md.
//!
//! ```text
//! Candidate::campaign ──► Leadership { tenure } ──lost, or given up──► Candidate
//! ```
//!
//! [`lease`] decides by what was seen and when, [`epochs`] numbers leaderships in the state directory, a [`Life`] says
//! who is alive ([`state_dir`], [`zookeeper`]), and a [`Tenure`] is what the rest of the scheduler writes by.

pub mod epochs;
pub mod fenced;
mod lease;
pub mod standby;
mod state_dir;
mod tenure;
mod zookeeper;

pub use epochs::{Claim, Epochs, Leader};
pub use tenure::{LEADERSHIP_LOST, Tenure};

use headwater_proto::error::{Error, ErrorKind, Result};
use lease::{BEAT, LEASE, LOOK, Moment, REQUEST_MAX, Sign};
use std::fmt;
use std::str::FromStr;
use tenure::Standing;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;

/// How schedulers of one state directory find out who lives: `--ha`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ha {
    /// By heartbeats in the state directory.
    StateDir,
    /// By a node in ZooKeeper.
    ZooKeeper(zookeeper::Address),
}

impl FromStr for Ha {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.trim() {
            "state-dir" => Ok(Self::StateDir),
            text => match text.strip_prefix("zookeeper://").or_else(|| text.strip_prefix("zk://")) {
                Some(address) => zookeeper::Address::parse(address).map(Self::ZooKeeper),
                None => Err(format!("{text:?} is none of state-dir, zookeeper://host:2181/path")),
            },
        }
    }
}

impl fmt::Display for Ha {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::StateDir => f.write_str("state-dir"),
            Self::ZooKeeper(address) => address.fmt(f),
        }
    }
}

/// Who is alive.
#[async_trait::async_trait]
trait Life: Send {
    /// Whether the holder of the latest epoch, if there has been any, is gone. `ours`: this process claimed it, in a
    /// campaign that was cut short or a leadership that it lost.
    async fn look(&mut self, epoch: Option<u64>, ours: bool) -> Result<Sign>;
    /// After the epoch behind `epoch` has been claimed: returns once the holder of `epoch` has no right left.
    async fn settle(&mut self, epoch: u64) -> Result<()>;
    /// Proves that the holder of `epoch` is alive.
    async fn beat(&mut self, epoch: u64) -> Result<()>;
    /// The holder of `epoch` leads no more: another may at once.
    async fn release(&mut self, epoch: u64) -> Result<()>;
}

/// A scheduler that would lead.
pub struct Candidate {
    epochs: Epochs,
    life: Box<dyn Life>,
    me: Leader,
    known: watch::Sender<Option<Leader>>,
    /// Whether it may stand by. One that may not is refused where another leads, and never steps down of itself.
    stands_by: bool,
    /// The epoch behind which this one claimed the next, until its holder has no right left: also when the claim's
    /// answer was lost, after which the latest epoch is ours.
    unsettled: Option<u64>,
}

impl Candidate {
    /// One of several. Without `ha` the only one, which finds out whether that is so.
    pub fn new(epochs: Epochs, ha: Option<&Ha>, me: Leader) -> Self {
        let life: Box<dyn Life> = match ha {
            None | Some(Ha::StateDir) => Box::new(state_dir::StateDir::new(epochs.clone())),
            Some(Ha::ZooKeeper(address)) => Box::new(zookeeper::Node::new(address.clone(), me.holder)),
        };
        Self { epochs, life, me, known: watch::Sender::new(None), stands_by: ha.is_some(), unsettled: None }
    }

    /// Who leads, as far as this one knows.
    pub fn known(&self) -> standby::Known {
        self.known.subscribe()
    }

    /// Returns once this scheduler leads. Dropped, it gives up; what it may have claimed by then is noticed as a
    /// leader's death is.
    ///
    /// # Errors
    /// `STATE_DIRECTORY_IN_USE` when it may not stand by and another leads; what cannot be read will not pass.
    pub async fn campaign(mut self) -> Result<Leadership> {
        let mut said = None;
        loop {
            match self.attempt().await {
                Ok(Some((claim, began))) => return Ok(self.lead(claim, began)),
                Ok(None) => said = None,
                Err(error) if error.kind != ErrorKind::Transient => return Err(error),
                Err(error) => {
                    // Once each: it is asked twice a second.
                    if said.as_ref() != Some(&error.message) {
                        tracing::warn!(%error, "cannot find out who leads, trying on");
                        said = Some(error.message);
                    }
                }
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    async fn attempt(&mut self) -> Result<Option<(Claim, Moment)>> {
        let latest = self.epochs.latest().await?;
        let (epoch, leader) = latest.unzip();
        self.known.send_if_modified(|known| {
            let changed = *known != leader;
            known.clone_from(&leader);
            changed
        });
        let ours = leader.as_ref().is_some_and(|leader| leader.holder == self.me.holder);
        match self.life.look(epoch, ours).await? {
            Sign::Gone => {}
            Sign::Alive if !self.stands_by => {
                let leader = leader.map_or_else(|| "another scheduler".into(), |leader| leader.to_string());
                return Err(Error::fatal(
                    "STATE_DIRECTORY_IN_USE",
                    format!(
                        "the state directory is in use by the scheduler at {leader}: stop that one first, name another \
                         directory with --state-dir, or start both with --ha"
                    ),
                ));
            }
            Sign::Alive | Sign::Unclear => return Ok(None),
        }
        let next = epoch.map_or(1, |epoch| epoch + 1);
        let cluster = self.epochs.cluster().await?;
        if !ours {
            self.unsettled = epoch;
        }
        if !self.epochs.claim(next, &self.me).await? {
            return Ok(None);
        }
        if let Some(epoch) = self.unsettled {
            if let Err(error) = self.life.settle(epoch).await {
                // Not known: the former leader's right ends by time, then.
                tracing::warn!(%error, epoch, "the former leader cannot be looked at, waiting for the end of its lease");
                tokio::time::sleep(LEASE).await;
            }
            self.unsettled = None;
        }
        let began = Moment::now();
        match self.life.beat(next).await {
            Err(error) if error.class == LEADERSHIP_LOST => return Ok(None),
            beaten => beaten?,
        }
        match self.epochs.holder(next + 1).await? {
            Some(_) => Ok(None),
            None => Ok(Some((Claim { cluster, epoch: next }, began))),
        }
    }

    fn lead(self, claim: Claim, began: Moment) -> Leadership {
        tracing::info!(epoch = claim.epoch, "this scheduler leads");
        let (standing, seen) = watch::channel(Standing { renewed: began, trouble: None, lost: None });
        let (release, released) = oneshot::channel();
        let renewals = tokio::spawn(renew(self, claim.epoch, standing, released));
        Leadership { tenure: Tenure::new(claim, seen), release, renewals }
    }
}

/// A leadership, kept up until it is lost or given up.
pub struct Leadership {
    tenure: Tenure,
    release: oneshot::Sender<()>,
    renewals: JoinHandle<Candidate>,
}

impl Leadership {
    /// The right to write.
    pub fn tenure(&self) -> &Tenure {
        &self.tenure
    }

    /// Gives it up, unless it is lost, so that another may lead at once. Nothing may write after this.
    pub async fn end(self) -> Result<Candidate> {
        // The receiver is gone when it is lost.
        let _ = self.release.send(());
        self.renewals.await.map_err(Error::internal)
    }
}

/// Renews until the leadership is lost or released.
async fn renew(
    mut candidate: Candidate,
    epoch: u64,
    standing: watch::Sender<Standing>,
    mut released: oneshot::Receiver<()>,
) -> Candidate {
    let mut ticks = tokio::time::interval(BEAT);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            _ = &mut released => {
                standing.send_modify(|standing| standing.lost = Some("it was given up".into()));
                if let Err(error) = candidate.life.release(epoch).await {
                    tracing::warn!(%error, "the leadership could not be given up; others wait for its end");
                }
                return candidate;
            }
        }
        let began = Moment::now();
        let renewal = async {
            candidate.life.beat(epoch).await?;
            // Only now: see the design note.
            match candidate.epochs.holder(epoch + 1).await? {
                Some(leader) => Err(Error::fatal(LEADERSHIP_LOST, format!("the scheduler at {leader} has taken over"))),
                None => Ok(()),
            }
        };
        let renewed = tokio::time::timeout(REQUEST_MAX, renewal).await.unwrap_or_else(|_| {
            Err(Error::transient("LEADERSHIP_UNCONFIRMED", format!("no answer within {REQUEST_MAX:?}")))
        });
        let Err(error) = renewed else {
            standing.send_modify(|standing| (standing.renewed, standing.trouble) = (began, None));
            continue;
        };
        let silence = standing.borrow().renewed.until(Moment::now());
        let lost = match error.kind {
            ErrorKind::Transient if !candidate.stands_by || silence < LEASE => None,
            ErrorKind::Transient => Some(format!("it could not be renewed for {silence:.0?}: {error}")),
            _ => Some(error.message.clone()),
        };
        if standing.borrow().trouble.is_none() {
            tracing::warn!(epoch, %error, "the leadership could not be renewed, trying on");
        }
        standing.send_modify(|standing| {
            standing.trouble = Some(error.to_string());
            standing.lost.clone_from(&lost);
        });
        if lost.is_some() {
            return candidate;
        }
    }
}

#[cfg(test)]
mod tests;
