//! On a real PostgreSQL, each test in a database of its own.

use super::*;
use headwater_proto::engine::StartIngestRequest;
use std::time::Instant;

/// A database of a test; none without a server, which is said.
pub struct Database {
    admin: Client,
    name: String,
    pub address: Secret,
}

impl Database {
    pub async fn new(test: &str) -> Option<Self> {
        let Ok(server) = std::env::var("POSTGRES_ADDRESS") else {
            assert!(
                std::env::var("HEADWATER_REQUIRE_SERVICES").as_deref() != Ok("1"),
                "POSTGRES_ADDRESS is not set, and HEADWATER_REQUIRE_SERVICES=1"
            );
            println!("skipped: ingest {test}: POSTGRES_ADDRESS is not set");
            return None;
        };
        let root = Secret::new(format!("postgresql://postgres@{server}/postgres"));
        let admin = postgres::connect(&options(&root)).await.expect("postgres");
        let name = format!("ingest_{test}_{}", Uuid::new_v4().simple());
        admin.batch_execute(&format!("CREATE DATABASE {name}")).await.expect("a database");
        let address = Secret::new(format!("postgresql://postgres@{server}/{name}"));
        Some(Self { admin, name, address })
    }

    pub async fn remove(self) {
        let drop = format!("DROP DATABASE {} WITH (FORCE)", self.name);
        self.admin.batch_execute(&drop).await.expect("dropped");
    }
}

fn request(users: u64, publish_only: bool) -> Request {
    let request = StartIngestRequest {
        users,
        publish_only,
        topic: "t".into(),
        kafka: "k:1".into(),
        postgres: "postgresql://h/d".into(),
        page_size: 2,
        ..StartIngestRequest::default()
    };
    Request::parse(&request, None).expect("good")
}

fn user(number: u128) -> String {
    Uuid::from_u128(number).to_string()
}

/// Puts users where executors put them: (position, id, why it is rejected).
async fn arrive(store: &Store, run: &str, page: i32, users: &[(i32, Option<String>, Option<&str>)]) {
    for (position, id, rejected) in users {
        let insert = "INSERT INTO headwater.ingest_arrivals (run_id, page, position, id, first_name, rejected)
                      VALUES ($1, $2, $3, $4, 'A', $5) ON CONFLICT DO NOTHING";
        store.client.execute(insert, &[&run, &page, position, id, rejected]).await.expect("arrives");
    }
}

/// fetched, staged, published, rejected, duplicates.
async fn ledger(store: &Store, run: &str) -> [u64; 5] {
    let run = store.get(run).await.expect("postgres").expect("the run");
    [run.fetched, run.staged, run.published, run.rejected, run.duplicates]
}

async fn deliver(store: &Store, run: &str, attempt: i32, records: &[(i32, i64, u128)]) {
    for (partition, offset, number) in records {
        let insert = "INSERT INTO headwater.ingest_deliveries VALUES ($1, $2, $3, $4, $5)";
        let id = Uuid::from_u128(*number);
        store.client.execute(insert, &[&run, &attempt, partition, offset, &id]).await.expect("is found");
    }
}

#[tokio::test]
async fn an_address_may_name_a_secret() {
    let address = Secret::new("postgresql://u:${secret:headwater-no-such-secret}@127.0.0.1:1/d");
    let error = Store::connect(&address).await.err().expect("there is no such secret");
    assert_eq!(error.class, "SECRET_NOT_FOUND", "{error}");
}

#[tokio::test]
async fn a_run_is_begun_once() {
    let Some(database) = Database::new("begun").await else { return };
    // Schedulers that start at once make the schema once.
    let (one, two) = tokio::join!(Store::open(&database.address), Store::open(&database.address));
    let (mut store, mut other) = (one.expect("opens"), two.expect("opens"));
    assert_eq!(store.begin("it's", &request(3, false), "seed").await.expect("begins"), Begun::New);
    assert_eq!(store.begin("it's", &request(3, false), "other").await.expect("is known"), Begun::Known);
    assert_eq!(store.seed("it's").await.expect("a seed"), "seed");
    let error = store.begin("it's", &request(5, false), "seed").await.expect_err("is another");
    assert_eq!((error.kind, error.class.as_str()), (ErrorKind::AlreadyExists, "INGEST_RUN_EXISTS"));
    assert!(error.message.contains("users was 3 and is 5"), "{error}");
    store.set("it's", IngestState::Failed, "m", "C").await.expect("is set");
    let run = store.get("it's").await.expect("postgres").expect("the run");
    assert_eq!((run.state(), run.error_class.as_str(), run.ended_at.is_some()), (IngestState::Failed, "C", true));
    assert_eq!(store.begin("it's", &request(3, false), "x").await.expect("goes on"), Begun::Resumed);
    let run = store.get("it's").await.expect("postgres").expect("the run");
    assert_eq!((run.state(), run.error_class.as_str(), run.ended_at), (IngestState::Pending, "", None));
    assert_eq!(store.list(10).await.expect("lists").len(), 1);
    assert_eq!(store.get("none").await.expect("postgres"), None);
    store.take("it's").await.expect("is free");
    // The server notices soon when a machine that holds a run is gone.
    let idle = store.client.query_one("SHOW tcp_keepalives_idle", &[]).await.expect("postgres");
    assert_eq!(idle.get::<_, &str>(0), "10");
    let busy = other.take("it's").await.expect_err("is taken");
    assert_eq!((busy.kind, busy.class.as_str()), (ErrorKind::Transient, "INGEST_RUN_BUSY"));
    // Who cannot have it can still compare.
    let found = other.find("it's", &request(3, false)).await.expect("is the same");
    assert_eq!(found.map(|run| run.run_id).as_deref(), Some("it's"));
    let error = other.find("it's", &request(5, false)).await.expect_err("is another");
    assert_eq!(error.class, "INGEST_RUN_EXISTS");
    assert_eq!(other.find("none", &request(3, false)).await.expect("postgres"), None);
    // An end that could not be told is told later, unless the run is held or has ended otherwise.
    assert!(!other.tell("it's", IngestState::Failed, "late", "C").await.expect("postgres"), "it goes on");
    // Waiting for it ends with the time, or with whoever holds it.
    other.until_free("it's", Duration::from_millis(50)).await.expect("waits");
    assert_eq!(other.take("it's").await.expect_err("is taken").class, "INGEST_RUN_BUSY");
    let began = Instant::now();
    let (waited, ()) = tokio::join!(other.until_free("it's", Duration::from_secs(50)), store.release("it's"));
    waited.expect("waits");
    assert!(began.elapsed() < Duration::from_secs(40), "{:?}", began.elapsed());
    assert!(other.tell("it's", IngestState::Failed, "late", "C").await.expect("postgres"));
    assert!(!other.tell("it's", IngestState::Cancelled, "later", "").await.expect("postgres"), "it has ended");
    let run = store.get("it's").await.expect("postgres").expect("the run");
    assert_eq!((run.state(), run.message.as_str(), run.ended_at.is_some()), (IngestState::Failed, "late", true));
    other.take("it's").await.expect("is free again");
    drop((store, other));
    database.remove().await;
}

#[tokio::test]
async fn pages_are_settled_once_and_whole() {
    let Some(database) = Database::new("settled").await else { return };
    let mut store = Store::open(&database.address).await.expect("opens");
    let asked = request(5, false);
    store.begin("r", &asked, "s").await.expect("begins");
    let pages = asked.pages();
    assert_eq!(store.facts("r").await.expect("facts").missing, pages);
    // Half a page waits.
    arrive(&store, "r", 1, &[(0, Some(user(1)), None)]).await;
    assert_eq!(store.settle("r", &pages).await.expect("settles"), 0);
    arrive(&store, "r", 1, &[(1, Some(user(2)), None)]).await;
    arrive(&store, "r", 2, &[(0, None, Some("missing id")), (1, Some(user(2)), None)]).await;
    assert_eq!(store.settle("r", &pages).await.expect("settles"), 2);
    assert_eq!(ledger(&store, "r").await, [4, 2, 0, 1, 1]);
    // A task that ran again, late.
    arrive(&store, "r", 1, &[(0, Some(user(1)), None), (1, Some(user(2)), None)]).await;
    assert_eq!(store.settle("r", &pages).await.expect("settles"), 0);
    arrive(&store, "r", 3, &[(0, Some("no uuid".into()), None)]).await;
    assert_eq!(store.settle("r", &pages).await.expect("settles"), 1);
    assert_eq!(ledger(&store, "r").await, [5, 2, 0, 2, 1]);
    let run = store.get("r").await.expect("postgres").expect("the run");
    let mut reasons: Vec<_> = run.rejected_by_reason.into_iter().collect();
    reasons.sort();
    assert_eq!(reasons, [("id is no uuid".to_string(), 1), ("missing id".to_string(), 1)]);
    let facts = store.facts("r").await.expect("facts");
    assert_eq!((facts.missing.len(), facts.unpublished.users), (0, 2));
    assert_eq!(facts.unpublished.last_id, Uuid::from_u128(2));
    store.sweep("r").await.expect("sweeps");
    drop(store);
    database.remove().await;
}

#[tokio::test]
async fn who_arrived_is_marked_once() {
    let Some(database) = Database::new("marked").await else { return };
    let mut store = Store::open(&database.address).await.expect("opens");
    let asked = request(4, false);
    store.begin("r", &asked, "s").await.expect("begins");
    for page in [1, 2] {
        let first = 2 * page as u128;
        arrive(&store, "r", page, &[(0, Some(user(first)), None), (1, Some(user(first + 1)), None)]).await;
    }
    store.settle("r", &asked.pages()).await.expect("settles");
    let users = store.facts("r").await.expect("facts").unpublished;
    let before = BTreeMap::from([(0, 10), (1, 0)]);
    let attempt = store.open_attempt("r", "t", &before, users, 2).await.expect("opens");
    assert_eq!(store.facts("r").await.expect("facts").unresolved, Some(attempt));
    let claim = |slice: i32| format!("SELECT headwater.claim_slice('r', {attempt}, {slice})");
    store.client.batch_execute(&claim(0)).await.expect("is free");
    let twice = store.client.batch_execute(&claim(0)).await.expect_err("was claimed");
    assert!(twice.as_db_error().is_some_and(|error| error.message().contains("INGEST_SLICE_CLAIMED")), "{twice:?}");
    let closed = store.close_attempt("r", attempt).await.expect("closes");
    assert_eq!((closed.claimed, &closed.start_offsets), (1, &before));
    store.client.batch_execute(&claim(1)).await.expect_err("is closed");
    // Half of them arrived, one twice, and somebody else's record.
    deliver(&store, "r", attempt, &[(0, 10, 2), (1, 0, 3), (1, 5, 3), (0, 99, 77)]).await;
    assert_eq!(store.mark("r", "t", attempt, true).await.expect("marks"), (2, 1));
    assert_eq!(store.mark("r", "t", attempt, true).await.expect("marks"), (0, 0));
    assert_eq!(ledger(&store, "r").await, [4, 4, 2, 0, 0]);
    let facts = store.facts("r").await.expect("facts");
    assert_eq!((facts.unresolved, facts.unpublished.users), (None, 2));
    store.set("r", IngestState::Failed, "", "").await.expect("is set");

    // Another run publishes the rest; both count it.
    store.begin("p", &request(0, true), "").await.expect("begins");
    assert_eq!(store.claim("p", true).await.expect("takes over"), (2, 0));
    assert_eq!(store.claim("p", true).await.expect("takes over"), (0, 0));
    let users = store.facts("p").await.expect("facts").unpublished;
    assert_eq!(users.users, 2);
    let attempt = store.open_attempt("p", "t", &before, users, 1).await.expect("opens");
    deliver(&store, "p", attempt, &[(0, 12, 4), (0, 11, 5)]).await;
    // Not resolved: the users of this run cannot be taken over.
    store.set("p", IngestState::Failed, "", "").await.expect("is set");
    store.begin("q", &request(0, true), "").await.expect("begins");
    assert_eq!(store.claim("q", true).await.expect("takes over"), (0, 2));
    assert_eq!(store.mark("p", "t", attempt, true).await.expect("marks"), (2, 0));
    assert_eq!(ledger(&store, "p").await, [0, 2, 2, 0, 0]);
    assert_eq!(ledger(&store, "r").await, [4, 4, 4, 0, 0]);
    let run = store.get("r").await.expect("postgres").expect("the run");
    assert_eq!(BTreeMap::from_iter(run.end_offsets), BTreeMap::from([(0, 13), (1, 1)]));
    drop(store);
    database.remove().await;
}

#[tokio::test]
async fn users_are_taken_from_runs_that_nobody_holds() {
    let Some(database) = Database::new("held").await else { return };
    let mut store = Store::open(&database.address).await.expect("opens");
    let asked = request(2, false);
    store.begin("r", &asked, "s").await.expect("begins");
    store.take("r").await.expect("is free");
    arrive(&store, "r", 1, &[(0, Some(user(1)), None), (1, Some(user(2)), None)]).await;
    store.settle("r", &asked.pages()).await.expect("settles");
    store.set("r", IngestState::Publishing, "publishing", "").await.expect("is set");

    let mut other = Store::open(&database.address).await.expect("opens");
    other.begin("p", &request(0, true), "").await.expect("begins");
    assert_eq!(other.claim("p", true).await.expect("leaves them"), (0, 0));
    // While they are taken over, the run cannot go on.
    store.release("r").await;
    let mut third = Store::open(&database.address).await.expect("opens");
    let taking = third.transaction().await.expect("begins");
    let hold = "SELECT pg_try_advisory_xact_lock(hashtextextended('headwater ingest r', 0))";
    assert!(taking.query_one(hold, &[]).await.expect("postgres").get::<_, bool>(0));
    assert_eq!(store.take("r").await.expect_err("is held").class, "INGEST_RUN_BUSY");
    assert_eq!(other.claim("p", true).await.expect("leaves them"), (0, 0));
    taking.rollback().await.expect("postgres");
    // Its row says that it publishes, as it could not be told how it ended: nobody holds it, so it does not.
    assert_eq!(other.claim("p", true).await.expect("takes over"), (2, 0));
    assert_eq!(other.facts("p").await.expect("facts").unpublished.users, 2);
    store.take("r").await.expect("is free again");
    assert_eq!(store.facts("r").await.expect("facts").unpublished.users, 0);
    drop((store, other, third));
    database.remove().await;
}

#[tokio::test]
async fn the_budget_is_of_all_runs() {
    let Some(database) = Database::new("budget").await else { return };
    let mut store = Store::open(&database.address).await.expect("opens");
    let pages = request(6, false).pages();
    let (granted, number) = store.grant("s", &pages, Some(4)).await.expect("grants");
    assert_eq!(granted, Budget::Pages(pages[..2].to_vec()));
    let (Budget::Wait(wait), _) = store.grant("s", &pages[2..], Some(4)).await.expect("answers") else {
        panic!("granted")
    };
    assert!(wait > WINDOW / 2 && wait <= WINDOW, "{wait:?}");
    let (others, _) = store.grant("other", &pages, None).await.expect("grants");
    assert_eq!(others, Budget::Pages(pages.clone()));
    // What did not come may be asked for again.
    store.give_back(number, 2).await.expect("postgres");
    let (again, _) = store.grant("s", &pages[2..], Some(4)).await.expect("grants");
    assert_eq!(again, Budget::Pages(pages[2..].to_vec()));
    // A source that wants to be left alone is, by every run; a shorter pause does not end a longer one.
    let mut another = Store::open(&database.address).await.expect("opens");
    store.pause("other", Duration::from_secs(60)).await.expect("postgres");
    another.pause("other", Duration::from_secs(1)).await.expect("postgres");
    let (Budget::Paused(wait), _) = another.grant("other", &pages, None).await.expect("answers") else {
        panic!("granted")
    };
    assert!(wait > Duration::from_secs(50) && wait <= Duration::from_secs(60), "{wait:?}");
    drop((store, another));
    database.remove().await;
}
