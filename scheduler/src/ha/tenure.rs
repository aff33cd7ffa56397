//! The right to write, as the rest of the scheduler holds it: waits while it is not certain, ends when it is lost.

use super::epochs::Claim;
use super::lease::{self, Moment};
use headwater_proto::error::{Error, Result};
use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;
use tokio::sync::watch;

/// A write waits so long for a renewal; then it fails for this time.
const CONFIRM_MAX: Duration = Duration::from_secs(5);

/// How a leadership stands.
#[derive(Debug, Clone)]
pub(super) struct Standing {
    /// When the last good renewal began.
    pub renewed: Moment,
    /// Why the latest was none.
    pub trouble: Option<String>,
    /// Why it has ended.
    pub lost: Option<String>,
}

/// Cheap to clone.
#[derive(Debug, Clone)]
pub struct Tenure {
    claim: Option<Claim>,
    /// None: nobody disputes it.
    standing: Option<watch::Receiver<Standing>>,
}

impl Tenure {
    /// Of a scheduler that holds a lock, or that is alone by construction.
    pub fn undisputed() -> Self {
        Self { claim: None, standing: None }
    }

    pub(super) fn new(claim: Claim, standing: watch::Receiver<Standing>) -> Self {
        Self { claim: Some(claim), standing: Some(standing) }
    }

    /// What to sign entries of logs with.
    pub fn claim(&self) -> Option<Claim> {
        self.claim
    }

    /// The number of the leadership; 0 when nobody disputes it.
    pub fn epoch(&self) -> u64 {
        self.claim.map_or(0, |claim| claim.epoch)
    }

    fn is_fresh(&self) -> bool {
        self.standing.as_ref().is_none_or(|standing| {
            let standing = standing.borrow();
            standing.lost.is_none() && lease::is_fresh(standing.renewed, Moment::now())
        })
    }

    /// Returns once the right is certain.
    ///
    /// # Errors
    /// `LEADERSHIP_LOST` (fatal) for ever after it is lost; `LEADERSHIP_UNCONFIRMED` (transient) when it could not be
    /// renewed for a while, with the reason.
    pub async fn confirm(&self) -> Result<()> {
        let Some(mut standing) = self.standing.clone() else { return Ok(()) };
        let mut patience = pin!(tokio::time::sleep(CONFIRM_MAX));
        loop {
            let trouble = {
                let standing = standing.borrow_and_update();
                if let Some(reason) = &standing.lost {
                    return Err(lost(reason));
                }
                if lease::is_fresh(standing.renewed, Moment::now()) {
                    return Ok(());
                }
                standing.trouble.clone()
            };
            tokio::select! {
                changed = standing.changed() => {
                    if changed.is_err() {
                        return Err(lost("it was given up"));
                    }
                }
                () = &mut patience => {
                    let reason = trouble.unwrap_or_else(|| "the last renewal is too old".into());
                    return Err(Error::transient(
                        "LEADERSHIP_UNCONFIRMED",
                        format!("it is not certain that this scheduler still leads, so it does not write: {reason}"),
                    ));
                }
            }
        }
    }

    /// Runs a write. Whenever it wakes up the right must be certain, or it goes no further.
    pub async fn guard<T, E: From<Error>>(&self, write: impl Future<Output = Result<T, E>>) -> Result<T, E> {
        let mut write = pin!(write);
        loop {
            self.confirm().await?;
            let polled = poll_fn(|context| match self.is_fresh() {
                true => write.as_mut().poll(context).map(Some),
                false => Poll::Ready(None),
            });
            if let Some(written) = polled.await {
                return written;
            }
        }
    }

    /// Returns when the right is lost, with the reason; never when nobody disputes it.
    pub async fn lost(&self) -> String {
        let Some(mut standing) = self.standing.clone() else { return std::future::pending().await };
        match standing.wait_for(|standing| standing.lost.is_some()).await {
            Ok(standing) => standing.lost.clone().unwrap_or_default(),
            Err(_) => "it was given up".into(),
        }
    }
}

fn lost(reason: &str) -> Error {
    Error::fatal(LEADERSHIP_LOST, format!("this scheduler leads no more: {reason}"))
}

/// Class of errors of a scheduler that was deposed: no failure of what it was doing.
pub const LEADERSHIP_LOST: &str = "LEADERSHIP_LOST";

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    fn disputed() -> (watch::Sender<Standing>, Tenure) {
        let (sender, standing) = watch::channel(Standing { renewed: Moment::now(), trouble: None, lost: None });
        (sender, Tenure::new(Claim { cluster: Uuid::new_v4(), epoch: 1 }, standing))
    }

    /// The real clocks are asked: each wait here is one.
    #[tokio::test]
    async fn a_write_stops_where_the_right_ends() {
        let (sender, tenure) = disputed();
        let (wake, mut woken) = tokio::sync::mpsc::channel::<()>(1);
        let steps = std::sync::atomic::AtomicU32::new(0);
        let write = tenure.guard(async {
            steps.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
            woken.recv().await;
            steps.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
            Ok::<_, Error>(())
        });
        let pause = async {
            tokio::task::yield_now().await;
            // The process was stopped here, for longer than a renewal is good for.
            std::thread::sleep(lease::FRESH);
            wake.send(()).await.unwrap();
            tokio::task::yield_now().await;
            sender.send_modify(|standing| standing.lost = Some("another leads".into()));
        };
        let (written, ()) = tokio::join!(write, pause);
        let error = written.unwrap_err();
        assert_eq!((error.class.as_str(), error.kind), (LEADERSHIP_LOST, headwater_proto::error::ErrorKind::Fatal));
        assert!(error.message.contains("another leads"), "{error}");
        assert_eq!(steps.load(std::sync::atomic::Ordering::SeqCst), 1, "it went no further");
        assert_eq!(tenure.lost().await, "another leads");
    }

    #[tokio::test]
    async fn a_write_goes_on_after_a_renewal() {
        let (sender, tenure) = disputed();
        std::thread::sleep(lease::FRESH);
        let write = tenure.guard(async { Ok::<_, Error>(7) });
        let renew = async {
            tokio::task::yield_now().await;
            sender.send_modify(|standing| standing.renewed = Moment::now());
        };
        assert_eq!(tokio::join!(write, renew).0.unwrap(), 7);
    }

    #[tokio::test]
    async fn what_cannot_be_confirmed_says_why() {
        let (sender, tenure) = disputed();
        std::thread::sleep(lease::FRESH);
        sender.send_modify(|standing| standing.trouble = Some("the bucket is away".into()));
        let error = tenure.confirm().await.unwrap_err();
        assert_eq!(error.class, "LEADERSHIP_UNCONFIRMED");
        assert!(error.message.contains("the bucket is away"), "{error}");
        drop(sender);
        assert_eq!(tenure.confirm().await.unwrap_err().class, LEADERSHIP_LOST);
        Tenure::undisputed().confirm().await.unwrap();
    }
}
