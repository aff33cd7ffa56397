//! Candidates over a store that can be cut off. The leases are the real ones, and so are the clocks.

use super::*;
use crate::streaming::checkpoint::tests::{Fault, FaultyStore};
use headwater_proto::error::ErrorKind;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::throttle::{ThrottleConfig, ThrottledStore};
use object_store::{ObjectStore, ObjectStoreExt};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use uuid::Uuid;

/// One machine's way to the store.
type Way = Arc<ThrottledStore<Arc<dyn ObjectStore>>>;

fn way(store: &Arc<dyn ObjectStore>) -> Way {
    Arc::new(ThrottledStore::new(Arc::clone(store), ThrottleConfig::default()))
}

fn cut(way: &Way, cut: bool) {
    let wait = if cut { Duration::from_secs(3600) } else { Duration::ZERO };
    way.config_mut(|config| {
        config.wait_put_per_call = wait;
        config.wait_get_per_call = wait;
        config.wait_list_with_delimiter_per_call = wait;
    });
}

fn candidate(way: &Way, ha: Option<&Ha>, address: &str) -> Candidate {
    let epochs = Epochs::new(Arc::clone(way) as Arc<dyn ObjectStore>, &Path::from("state"));
    Candidate::new(epochs, ha, Leader { holder: Uuid::new_v4(), address: address.into(), process: "p".into() })
}

fn memory() -> Arc<dyn ObjectStore> {
    Arc::new(InMemory::new())
}

#[tokio::test(flavor = "multi_thread")]
async fn one_leads_and_hands_over() {
    let store = memory();
    let (one, two) = (way(&store), way(&store));
    let first = candidate(&one, Some(&Ha::StateDir), "one:1").campaign().await.unwrap();
    assert_eq!(first.tenure().epoch(), 1);
    let second = candidate(&two, Some(&Ha::StateDir), "two:2");
    let known = second.known();
    let second = tokio::spawn(second.campaign());
    // Longer than a lease: the first one's beats are seen.
    tokio::time::sleep(LEASE + BEAT).await;
    assert!(!second.is_finished());
    assert_eq!(known.borrow().as_ref().map(|leader| leader.address.clone()).as_deref(), Some("one:1"));
    first.tenure().confirm().await.unwrap();

    let (tenure, asked) = (first.tenure().clone(), Instant::now());
    let first = first.end().await.unwrap();
    assert_eq!(tenure.confirm().await.unwrap_err().class, LEADERSHIP_LOST);
    let second = second.await.unwrap().unwrap();
    assert_eq!(second.tenure().epoch(), 2);
    assert!(asked.elapsed() < LEASE, "a release is not waited for: {:?}", asked.elapsed());
    // Back again as a standby.
    let first = tokio::spawn(first.campaign());
    second.end().await.unwrap();
    assert_eq!(first.await.unwrap().unwrap().tenure().epoch(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_is_cut_off_has_no_right_when_another_leads() {
    let store = memory();
    let (one, two) = (way(&store), way(&store));
    let first = candidate(&one, Some(&Ha::StateDir), "one:1").campaign().await.unwrap();
    let fenced = fenced::Fenced::over(Arc::clone(&store), first.tenure().clone());
    let file = Path::from("state/queries/q.json");
    fenced.put(&file, "first".into()).await.unwrap();
    let second = tokio::spawn(candidate(&two, Some(&Ha::StateDir), "two:2").campaign());
    cut(&one, true);
    let since = Instant::now();
    let late = {
        // Begun while the right was fresh, it may end well or not; begun after, it must not.
        let (fenced, file) = (Arc::clone(&fenced), file.clone());
        tokio::spawn(async move {
            tokio::time::sleep(lease::FRESH + BEAT).await;
            fenced.put(&file, "late".into()).await
        })
    };
    let second = second.await.unwrap().unwrap();
    assert!(since.elapsed() < Duration::from_secs(10), "as promised: {:?}", since.elapsed());
    assert_eq!(second.tenure().epoch(), 2);
    let own = fenced::Fenced::over(Arc::clone(&store), second.tenure().clone());
    own.put(&file, "second".into()).await.unwrap();

    cut(&one, false);
    let refused = late.await.unwrap().unwrap_err().to_string();
    assert!(refused.contains("LEADERSHIP_LOST"), "{refused}");
    first.tenure().lost().await;
    assert!(fenced.put(&file, "later".into()).await.is_err());
    assert!(fenced.delete(&file).await.is_err());
    assert_eq!(store.get(&file).await.unwrap().bytes().await.unwrap(), "second");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_ha_a_second_one_is_refused_and_the_first_outlasts_an_outage() {
    let store = memory();
    let (one, two) = (way(&store), way(&store));
    let first = candidate(&one, None, "one:1").campaign().await.unwrap();
    let refused = candidate(&two, None, "two:2").campaign().await.err().expect("refused");
    assert_eq!((refused.kind, refused.class.as_str()), (ErrorKind::Fatal, "STATE_DIRECTORY_IN_USE"));
    assert!(refused.message.contains("one:1 (p)"), "{refused}");
    cut(&one, true);
    tokio::time::sleep(LEASE + BEAT).await;
    let waiting = tokio::spawn({
        let tenure = first.tenure().clone();
        async move { tenure.confirm().await }
    });
    cut(&one, false);
    waiting.await.unwrap().unwrap();
    assert_eq!(first.tenure().epoch(), 1);
}

/// Every leader is gone; notes whose right was waited for.
struct Gone(Arc<Mutex<Vec<u64>>>);

#[async_trait::async_trait]
impl Life for Gone {
    async fn look(&mut self, _: Option<u64>, _: bool) -> Result<Sign> {
        Ok(Sign::Gone)
    }
    async fn settle(&mut self, epoch: u64) -> Result<()> {
        self.0.lock().unwrap().push(epoch);
        Ok(())
    }
    async fn beat(&mut self, _: u64) -> Result<()> {
        Ok(())
    }
    async fn release(&mut self, _: u64) -> Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn the_former_leader_is_settled_with_also_when_the_answer_to_the_claim_was_lost() {
    let mut answers = vec![Fault::After];
    let store = FaultyStore::new(move |request| match request {
        "put state/ha/epochs/2" => answers.pop().unwrap_or(Fault::None),
        _ => Fault::None,
    });
    let epochs = Epochs::new(store, &Path::from("state"));
    let leader = |address: &str| Leader { holder: Uuid::new_v4(), address: address.into(), process: "p".into() };
    assert!(epochs.claim(1, &leader("one:1")).await.unwrap());
    let settled = Arc::new(Mutex::default());
    let two = Candidate {
        epochs,
        life: Box::new(Gone(Arc::clone(&settled))),
        me: leader("two:2"),
        known: watch::Sender::new(None),
        stands_by: true,
        unsettled: None,
    };
    let two = two.campaign().await.unwrap();
    assert_eq!(two.tenure().epoch(), 3, "the second claim was its own, and so was the third");
    assert_eq!(*settled.lock().unwrap(), [1], "once");
    assert_eq!(two.end().await.unwrap().unsettled, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_heartbeat_that_cannot_be_read_is_silence() {
    let store = memory();
    let one = candidate(&way(&store), Some(&Ha::StateDir), "one:1");
    assert!(one.epochs.claim(1, &one.me).await.unwrap());
    one.epochs.write_heartbeat(1, b"{\"bea".to_vec()).await.unwrap();
    let two = candidate(&way(&store), Some(&Ha::StateDir), "two:2").campaign();
    let two = tokio::time::timeout(LEASE * 3, two).await.expect("in time").unwrap();
    assert_eq!(two.tenure().epoch(), 2);
}
