//! Sessions: what a client set, named and uploaded, and what it runs.
//!
//! A session is found by the client's ids of user and session, made when it is first named, and known under an id of
//! ours as well (`server_side_session_id`), by which a client notices that the one it talked to is gone. It ends when
//! it is released, or when nothing was asked of it for [`Limits::idle`]; what runs counts as being asked. Ids of
//! sessions that ended are remembered, and so are those of operations, so that who comes too late hears that it is too
//! late instead of running something a second time.

use super::artifacts::Artifacts;
use super::error::{self, Status};
use super::operation::{self, Identity, Operation, State};
use super::plan::Planned;
use super::streaming::PerSession;
use crate::execute::Statements;
use crate::session::Session as SqlSession;
use datafusion::execution::SessionState;
use headwater_proto::error::{Error, ErrorKind, Result};
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;
use tokio::time::Instant;
use uuid::Uuid;

/// Ended sessions and operations that are remembered: Spark's number of tombstones.
const REMEMBERED_MAX: usize = 10_000;
/// Errors that are kept for `FetchErrorDetails`, which comes right after the error.
const ERRORS_MAX: usize = 100;
/// Operations of a session that have not been released.
const OPERATIONS_MAX: usize = 1000;
/// A full house makes room by ending a session that did nothing for this long.
const EVICT_AFTER: Duration = Duration::from_secs(60);

/// Bounds of sessions.
#[derive(Debug, Clone)]
pub struct Limits {
    /// A session that nothing was asked of for this long ends.
    pub idle: Duration,
    /// Sessions at once.
    pub sessions_max: usize,
    /// What a session may upload, in bytes.
    pub artifact_bytes_max: u64,
    /// Of each operation.
    pub operation: operation::Limits,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            idle: Duration::from_secs(3600),
            sessions_max: 1000,
            artifact_bytes_max: 4 << 30,
            operation: operation::Limits::default(),
        }
    }
}

/// Who a session belongs to and the client's id of it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Key {
    /// As the client says; empty when it says nothing.
    pub user_id: String,
    /// A UUID of the client's.
    pub session_id: String,
}

/// None of the critical sections can panic halfway through a change.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A map that forgets the oldest entries.
struct Recent<K, V> {
    values: HashMap<K, V>,
    order: VecDeque<K>,
    max: usize,
}

impl<K: Hash + Eq + Clone, V> Recent<K, V> {
    fn new(max: usize) -> Self {
        Self { values: HashMap::new(), order: VecDeque::new(), max }
    }
    fn insert(&mut self, key: K, value: V) {
        if self.values.insert(key.clone(), value).is_none() {
            self.order.push_back(key);
        }
        while self.order.len() > self.max {
            if let Some(oldest) = self.order.pop_front() {
                self.values.remove(&oldest);
            }
        }
    }
    fn get(&self, key: &K) -> Option<&V> {
        self.values.get(key)
    }
}

/// One session.
pub struct Session {
    key: Key,
    server_side_id: String,
    statements: Statements,
    limits: Limits,
    sql: RwLock<SqlSession>,
    artifacts: Artifacts,
    relations: Relations,
    streaming: PerSession,
    operations: Mutex<HashMap<String, Arc<Operation>>>,
    ended: Mutex<Recent<String, State>>,
    errors: Mutex<Recent<String, Error>>,
    storage_levels: Mutex<HashMap<Vec<u8>, headwater_proto::spark::StorageLevel>>,
    used: Mutex<Instant>,
}

impl Session {
    fn new(key: Key, statements: Statements, limits: Limits) -> Self {
        Self {
            key,
            server_side_id: Uuid::new_v4().to_string(),
            statements,
            artifacts: Artifacts::new(limits.artifact_bytes_max),
            limits,
            sql: RwLock::default(),
            relations: Relations::default(),
            streaming: PerSession::default(),
            operations: Mutex::default(),
            ended: Mutex::new(Recent::new(REMEMBERED_MAX)),
            errors: Mutex::new(Recent::new(ERRORS_MAX)),
            storage_levels: Mutex::default(),
            used: Mutex::new(Instant::now()),
        }
    }

    /// A session without a client, with these settings and views: streaming queries are planned in one again.
    pub fn detached(statements: Statements, sql: SqlSession) -> Arc<Self> {
        let key = Key { user_id: String::new(), session_id: Uuid::new_v4().to_string() };
        let mut session = Self::new(key, statements, Limits::default());
        session.sql = RwLock::new(sql);
        Arc::new(session)
    }

    /// What it knows of the streaming queries that it started.
    pub fn streaming(&self) -> &PerSession {
        &self.streaming
    }

    /// The client's id.
    pub fn id(&self) -> &str {
        &self.key.session_id
    }

    /// The user, as the client says.
    pub fn user_id(&self) -> &str {
        &self.key.user_id
    }

    /// Our id.
    pub fn server_side_id(&self) -> &str {
        &self.server_side_id
    }

    /// Planner, cluster and streaming queries.
    pub fn statements(&self) -> &Statements {
        &self.statements
    }

    /// What was uploaded.
    pub fn artifacts(&self) -> &Artifacts {
        &self.artifacts
    }

    /// Relations that are kept under an id.
    pub fn relations(&self) -> &Relations {
        &self.relations
    }

    /// Settings and temporary views as they are now.
    pub fn sql(&self) -> SqlSession {
        self.sql.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Runs something that may change settings and temporary views, such as a statement. Nothing is locked meanwhile:
    /// it works on a copy, and what it changed is changed here afterwards.
    pub async fn with_sql<T>(&self, work: impl AsyncFnOnce(&mut SqlSession) -> T) -> T {
        let before = self.sql();
        let mut after = before.clone();
        let done = work(&mut after).await;
        let mut sql = self.sql.write().unwrap_or_else(PoisonError::into_inner);
        apply(&before.conf, after.conf, &mut sql.conf);
        apply(&before.views, after.views, &mut sql.views);
        apply(&before.plans, after.plans, &mut sql.plans);
        sql.cached.retain(|key| after.cached.contains(key) || !before.cached.contains(key));
        sql.cached.extend(after.cached.difference(&before.cached).cloned());
        if before.database != after.database {
            sql.database = after.database;
        }
        done
    }

    /// Changes settings.
    ///
    /// # Errors
    /// What `change` says; then nothing is changed.
    pub fn change_conf<T>(&self, change: impl FnOnce(&mut BTreeMap<String, String>) -> Result<T>) -> Result<T> {
        let mut sql = self.sql.write().unwrap_or_else(PoisonError::into_inner);
        let mut conf = sql.conf.clone();
        let done = change(&mut conf)?;
        crate::session::session_config(&conf)?;
        sql.conf = conf;
        Ok(done)
    }

    /// A setting: what was set, else Spark's default.
    pub fn conf(&self, key: &str) -> Option<String> {
        let sql = self.sql.read().unwrap_or_else(PoisonError::into_inner);
        sql.setting(key).map(str::to_string)
    }

    /// A setting that is `true` or `false`.
    pub fn conf_bool(&self, key: &str) -> bool {
        self.conf(key).is_some_and(|value| value.trim().eq_ignore_ascii_case("true"))
    }

    /// A state of DataFusion to plan in, with this session's settings.
    ///
    /// # Errors
    /// `INVALID_CONF_VALUE`.
    pub fn state(&self) -> Result<SessionState> {
        let conf = self.sql.read().unwrap_or_else(PoisonError::into_inner).conf.clone();
        self.statements.planner.state(&conf)
    }

    /// Storage levels of relations that were persisted, by the relation's bytes.
    pub fn storage_levels(&self) -> MutexGuard<'_, HashMap<Vec<u8>, headwater_proto::spark::StorageLevel>> {
        lock(&self.storage_levels)
    }

    /// An error as a status; the whole of it is kept for the client to fetch.
    pub fn status(&self, error: &Error) -> Status {
        let id = Uuid::new_v4().to_string();
        let status = error::status(error, Some(&id));
        lock(&self.errors).insert(id, error.clone());
        status
    }

    /// An error that was told to the client.
    pub fn error(&self, id: &str) -> Option<Error> {
        lock(&self.errors).get(&id.to_string()).cloned()
    }

    /// Makes an operation, which is yet to be run and attached.
    ///
    /// # Errors
    /// `INVALID_HANDLE.OPERATION_ALREADY_EXISTS`, `INVALID_HANDLE.OPERATION_ABANDONED`; `TOO_MANY_OPERATIONS`.
    pub fn operation(&self, id: Option<String>, tags: Vec<String>, reattachable: bool) -> Result<Arc<Operation>> {
        let id = match id.filter(|id| !id.is_empty()) {
            Some(id) => uuid(&id).map(|()| id)?,
            None => Uuid::new_v4().to_string(),
        };
        let mut operations = lock(&self.operations);
        if operations.contains_key(&id) {
            return Err(handle(&id, "OPERATION_ALREADY_EXISTS", "operation already exists"));
        }
        if lock(&self.ended).get(&id).is_some() {
            return Err(abandoned(&id));
        }
        if operations.len() >= OPERATIONS_MAX {
            return Err(Error::transient(
                "TOO_MANY_OPERATIONS",
                format!("session {} has {OPERATIONS_MAX} operations that were not released: end some first", self.id()),
            ));
        }
        let identity = Identity {
            id: id.clone(),
            session_id: self.key.session_id.clone(),
            server_side_session_id: self.server_side_id.clone(),
            tags,
            reattachable,
        };
        let operation = Operation::new(identity, self.limits.operation.clone());
        operations.insert(id, Arc::clone(&operation));
        Ok(operation)
    }

    /// An operation that was not released yet.
    ///
    /// # Errors
    /// `INVALID_HANDLE.OPERATION_ABANDONED` when it was there once, `INVALID_HANDLE.OPERATION_NOT_FOUND`.
    pub fn find_operation(&self, id: &str) -> Result<Arc<Operation>> {
        if let Some(operation) = lock(&self.operations).get(id) {
            return Ok(Arc::clone(operation));
        }
        uuid(id)?;
        if lock(&self.ended).get(&id.to_string()).is_some() {
            return Err(abandoned(id));
        }
        Err(handle(id, "OPERATION_NOT_FOUND", "operation not found"))
    }

    /// Operations that were not released.
    pub fn operations(&self) -> Vec<Arc<Operation>> {
        lock(&self.operations).values().cloned().collect()
    }

    /// How an operation is, or how it ended; none when there was none.
    pub fn operation_state(&self, id: &str) -> Option<State> {
        let running = lock(&self.operations).get(id).map(|operation| operation.state());
        running.or_else(|| lock(&self.ended).get(&id.to_string()).copied())
    }

    /// Operations of which an end is remembered, and those that are there.
    pub fn operation_states(&self) -> Vec<(String, State)> {
        let mut states: Vec<_> = self.operations().iter().map(|one| (one.id().to_string(), one.state())).collect();
        states.extend(lock(&self.ended).values.iter().map(|(id, state)| (id.clone(), *state)));
        states
    }

    /// Cancels and forgets an operation; nothing when there is none.
    pub fn release_operation(&self, id: &str) {
        let operation = lock(&self.operations).remove(id);
        if let Some(operation) = operation {
            operation.cancel();
            lock(&self.ended).insert(id.to_string(), operation.state());
        }
    }

    /// Forgets operations that nobody is attached to for too long.
    fn abandon(&self, now: Instant) {
        for operation in self.operations() {
            let since = operation.detached_since();
            if since.is_some_and(|since| now.duration_since(since) >= self.limits.operation.detached_timeout) {
                if operation.state() == State::Running {
                    tracing::info!(operation_id = operation.id(), session_id = self.id(), "abandoned by its client");
                }
                self.release_operation(operation.id());
            }
        }
    }

    fn touch(&self) {
        *lock(&self.used) = Instant::now();
    }

    /// For how long nothing was asked of it; none while something runs.
    fn idle(&self, now: Instant) -> Option<Duration> {
        if self.operations().iter().any(|operation| operation.state() == State::Running) {
            return None;
        }
        Some(now.duration_since(*lock(&self.used)))
    }

    fn close(&self) {
        for operation in self.operations() {
            self.release_operation(operation.id());
        }
    }
}

/// Makes of `now` what a change of `before` to `after` makes of it.
fn apply<V: PartialEq>(before: &BTreeMap<String, V>, after: BTreeMap<String, V>, now: &mut BTreeMap<String, V>) {
    now.retain(|key, _| after.contains_key(key) || !before.contains_key(key));
    for (key, value) in after {
        if before.get(&key) != Some(&value) {
            now.insert(key, value);
        }
    }
}

/// Relations that clients refer to by an id that we gave them: checkpoints, and the frames of `foreachBatch`.
#[derive(Default)]
pub struct Relations(Mutex<HashMap<String, Arc<Planned>>>);

impl Relations {
    /// Keeps a relation; its id.
    pub fn put(&self, relation: Planned) -> String {
        let id = Uuid::new_v4().to_string();
        lock(&self.0).insert(id.clone(), Arc::new(relation));
        id
    }
    /// Keeps a relation under an id that is known already.
    pub fn put_as(&self, id: String, relation: Planned) {
        lock(&self.0).insert(id, Arc::new(relation));
    }
    /// A relation.
    pub fn get(&self, id: &str) -> Option<Arc<Planned>> {
        lock(&self.0).get(id).cloned()
    }
    /// Forgets a relation; whether there was one.
    pub fn remove(&self, id: &str) -> bool {
        lock(&self.0).remove(id).is_some()
    }
}

fn uuid(id: &str) -> Result<()> {
    match Uuid::try_parse(id) {
        Ok(_) => Ok(()),
        Err(_) => Err(handle(
            id,
            "FORMAT",
            "handle must be an UUID string of the format '00112233-4455-6677-8899-aabbccddeeff'",
        )),
    }
}

fn handle(id: &str, sub_class: &str, why: &str) -> Error {
    Error::new(ErrorKind::NotFound, format!("INVALID_HANDLE.{sub_class}"), format!("the handle {id} is invalid: {why}"))
        .with("handle", id)
}

fn abandoned(id: &str) -> Error {
    handle(id, "OPERATION_ABANDONED", "operation was considered abandoned because of inactivity and removed")
}

/// All sessions. Cheap to clone.
#[derive(Clone)]
pub struct Sessions {
    inner: Arc<Inner>,
}

struct Inner {
    statements: Statements,
    limits: Limits,
    sessions: Mutex<HashMap<Key, Arc<Session>>>,
    /// Those that must not come back.
    closed: Mutex<Recent<Key, ()>>,
}

impl Sessions {
    /// No sessions yet.
    pub fn new(statements: Statements, limits: Limits) -> Self {
        let closed = Mutex::new(Recent::new(REMEMBERED_MAX));
        Self { inner: Arc::new(Inner { statements, limits, sessions: Mutex::default(), closed }) }
    }

    /// The session of this key, made when there is none. `observed` is our id of it as the client knows it.
    ///
    /// # Errors
    /// `INVALID_HANDLE.*`; `TOO_MANY_SESSIONS`.
    pub fn get_or_create(&self, key: &Key, observed: Option<&str>) -> Result<Arc<Session>> {
        uuid(&key.session_id)?;
        let observed = observed.filter(|id| !id.is_empty());
        let session = {
            let mut sessions = lock(&self.inner.sessions);
            if lock(&self.inner.closed).get(key).is_some() {
                return Err(handle(&key.session_id, "SESSION_CLOSED", "session was closed"));
            }
            match sessions.get(key) {
                Some(session) => Arc::clone(session),
                // It knew another one: not to be made for nothing.
                None if observed.is_some() => return Err(changed(key)),
                None => {
                    self.make_room(&mut sessions)?;
                    let session = Session::new(key.clone(), self.inner.statements.clone(), self.inner.limits.clone());
                    tracing::debug!(session_id = key.session_id, user_id = key.user_id, "session");
                    let session = Arc::new(session);
                    sessions.insert(key.clone(), Arc::clone(&session));
                    session
                }
            }
        };
        seen(&session, key, observed)?;
        session.touch();
        Ok(session)
    }

    /// The session of this key.
    ///
    /// # Errors
    /// `INVALID_HANDLE.*`.
    pub fn get(&self, key: &Key, observed: Option<&str>) -> Result<Arc<Session>> {
        uuid(&key.session_id)?;
        let session = lock(&self.inner.sessions).get(key).cloned();
        let Some(session) = session else {
            if lock(&self.inner.closed).get(key).is_some() {
                return Err(handle(&key.session_id, "SESSION_CLOSED", "session was closed"));
            }
            return Err(handle(&key.session_id, "SESSION_NOT_FOUND", "session not found"));
        };
        seen(&session, key, observed.filter(|id| !id.is_empty()))?;
        session.touch();
        Ok(session)
    }

    fn make_room(&self, sessions: &mut HashMap<Key, Arc<Session>>) -> Result<()> {
        if sessions.len() < self.inner.limits.sessions_max {
            return Ok(());
        }
        let now = Instant::now();
        let idle = sessions.iter().filter_map(|(key, session)| Some((session.idle(now)?, key)));
        match idle.max_by_key(|(idle, _)| *idle).filter(|(idle, _)| *idle >= EVICT_AFTER) {
            Some((_, key)) => {
                let key = key.clone();
                if let Some(session) = sessions.remove(&key) {
                    session.close();
                }
                Ok(())
            }
            None => Err(Error::transient(
                "TOO_MANY_SESSIONS",
                format!("{} sessions are in use: stop() those that are done", self.inner.limits.sessions_max),
            )),
        }
    }

    /// Ends a session: what it runs is cancelled. Nothing when there is none; our id of it when there was.
    pub fn release(&self, key: &Key, allow_reconnect: bool) -> Option<String> {
        let session = {
            let mut sessions = lock(&self.inner.sessions);
            if !allow_reconnect {
                lock(&self.inner.closed).insert(key.clone(), ());
            }
            sessions.remove(key)
        };
        session.map(|session| {
            session.close();
            session.server_side_id.clone()
        })
    }

    /// A session with the settings, views, uploads and relations of another.
    ///
    /// # Errors
    /// `INVALID_CLONE_SESSION_REQUEST.*` when the new id is no UUID, or is or was in use.
    pub fn duplicate(&self, of: &Session, new_session_id: Option<String>) -> Result<Arc<Session>> {
        let refused = |sub_class: &str, id: &str, why: &str| {
            Error::invalid(
                &format!("INVALID_CLONE_SESSION_REQUEST.{sub_class}"),
                format!("cannot clone session to target session ID {id}: {why}"),
            )
            .with("targetSessionId", id)
        };
        let id = new_session_id.unwrap_or_else(|| Uuid::new_v4().to_string());
        if Uuid::try_parse(&id).is_err() {
            return Err(refused("TARGET_SESSION_ID_FORMAT", &id, "it must be an UUID string"));
        }
        let key = Key { user_id: of.key.user_id.clone(), session_id: id };
        let mut sessions = lock(&self.inner.sessions);
        if lock(&self.inner.closed).get(&key).is_some() {
            let why = "a session with this ID was previously closed";
            return Err(refused("TARGET_SESSION_ID_ALREADY_CLOSED", &key.session_id, why));
        }
        if sessions.contains_key(&key) {
            let why = "a session with this ID already exists";
            return Err(refused("TARGET_SESSION_ID_ALREADY_EXISTS", &key.session_id, why));
        }
        self.make_room(&mut sessions)?;
        let mut session = Session::new(key.clone(), self.inner.statements.clone(), self.inner.limits.clone());
        session.sql = RwLock::new(of.sql());
        session.artifacts = of.artifacts.duplicate();
        session.relations = Relations(Mutex::new(lock(&of.relations.0).clone()));
        let session = Arc::new(session);
        sessions.insert(key, Arc::clone(&session));
        Ok(session)
    }

    /// Abandons operations and ends sessions that nobody uses.
    pub fn expire(&self) {
        let now = Instant::now();
        let all: Vec<_> = lock(&self.inner.sessions).values().cloned().collect();
        for session in all {
            session.abandon(now);
            if session.idle(now).is_some_and(|idle| idle >= self.inner.limits.idle) {
                tracing::info!(session_id = session.id(), user_id = session.user_id(), "session expired");
                self.release(&session.key, false);
            }
        }
    }

    /// How often to look for what to expire: a fraction of the shortest time that counts.
    pub fn expiry_interval(&self) -> Duration {
        let shortest = self.inner.limits.idle.min(self.inner.limits.operation.detached_timeout);
        (shortest / 8).clamp(Duration::from_millis(50), Duration::from_secs(30))
    }

    /// Ends all.
    pub fn close(&self) {
        let all: Vec<_> = lock(&self.inner.sessions).drain().map(|(_, session)| session).collect();
        for session in all {
            session.close();
        }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        lock(&self.inner.sessions).len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

fn changed(key: &Key) -> Error {
    handle(
        &key.session_id,
        "SESSION_CHANGED",
        "the existing Spark server driver instance has restarted; create a new Spark session",
    )
}

fn seen(session: &Session, key: &Key, observed: Option<&str>) -> Result<()> {
    match observed {
        Some(observed) if observed != session.server_side_id => Err(changed(key)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::Cluster;
    use crate::sql::catalog::Catalog;
    use crate::sql::planner::Planner;
    use crate::streaming::manager::Manager;
    use datafusion::execution::runtime_env::RuntimeEnv;
    use headwater_executor::connectors::Options;
    use headwater_executor::connectors::files::location::parse_location;

    async fn sessions(limits: Limits, folder: &tempfile::TempDir) -> Sessions {
        let state_dir = folder.path().display().to_string();
        let (store, root, url) = parse_location(&state_dir, &Options::default()).unwrap();
        let catalog = Catalog::open(Arc::clone(&store), &root, format!("{url}/warehouse")).await.unwrap();
        let planner = Arc::new(Planner::new(Arc::new(catalog), Arc::new(RuntimeEnv::default())));
        let cluster = Cluster::start().await.unwrap();
        let tenure = crate::ha::Tenure::undisputed();
        let manager =
            Manager::open(store, root, state_dir, cluster.clone(), Arc::clone(&planner), None, tenure).await.unwrap();
        Sessions::new(Statements { planner, cluster, manager }, limits)
    }

    fn key(user_id: &str, number: u128) -> Key {
        Key { user_id: user_id.into(), session_id: Uuid::from_u128(number).to_string() }
    }

    fn class<T>(result: Result<T>) -> String {
        result.err().map(|error| error.class).unwrap_or_default()
    }

    #[test]
    fn changes_of_copies_are_merged() {
        let map = |pairs: &[(&str, i32)]| pairs.iter().map(|(key, value)| (key.to_string(), *value)).collect();
        let check = |before: &[(&str, i32)], after: &[(&str, i32)], now: &[(&str, i32)], expect: &[(&str, i32)]| {
            let mut now: BTreeMap<String, i32> = map(now);
            apply(&map(before), map(after), &mut now);
            assert_eq!(now, map(expect));
        };
        check(&[("a", 1)], &[("a", 2)], &[("a", 1)], &[("a", 2)]);
        check(&[("a", 1)], &[], &[("a", 1), ("b", 1)], &[("b", 1)]);
        // What another changed meanwhile stays.
        check(&[("a", 1)], &[("a", 1), ("c", 3)], &[("a", 9), ("b", 1)], &[("a", 9), ("b", 1), ("c", 3)]);
        check(&[("a", 1)], &[("a", 1)], &[], &[]);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn sessions_are_found_closed_and_cloned() {
        let folder = tempfile::tempdir().unwrap();
        let sessions = sessions(Limits::default(), &folder).await;
        let first = sessions.get_or_create(&key("ann", 1), None).unwrap();
        let again = sessions.get_or_create(&key("ann", 1), Some(first.server_side_id())).unwrap();
        assert!(Arc::ptr_eq(&first, &again));
        let other = sessions.get_or_create(&key("bob", 1), None).unwrap();
        assert_ne!(first.server_side_id(), other.server_side_id());
        assert_eq!(class(sessions.get_or_create(&key("ann", 1), Some("x"))), "INVALID_HANDLE.SESSION_CHANGED");
        assert_eq!(class(sessions.get_or_create(&key("ann", 2), Some("x"))), "INVALID_HANDLE.SESSION_CHANGED");
        let no_uuid = Key { user_id: String::new(), session_id: "x".into() };
        assert_eq!(class(sessions.get_or_create(&no_uuid, None)), "INVALID_HANDLE.FORMAT");
        assert_eq!(class(sessions.get(&key("ann", 3), None)), "INVALID_HANDLE.SESSION_NOT_FOUND");

        first.change_conf(|conf| Ok(conf.insert("spark.x".into(), "1".into()))).unwrap();
        let clone = sessions.duplicate(&first, Some(key("ann", 4).session_id)).unwrap();
        clone.change_conf(|conf| Ok(conf.insert("spark.x".into(), "2".into()))).unwrap();
        assert_eq!((first.conf("spark.x").as_deref(), clone.conf("spark.x").as_deref()), (Some("1"), Some("2")));
        let refused = |id: String| class(sessions.duplicate(&first, Some(id)));
        assert!(refused(clone.id().into()).ends_with("TARGET_SESSION_ID_ALREADY_EXISTS"));
        assert!(refused("x".into()).ends_with("TARGET_SESSION_ID_FORMAT"));

        assert_eq!(sessions.release(&key("ann", 1), false).as_deref(), Some(first.server_side_id()));
        assert_eq!(class(sessions.get_or_create(&key("ann", 1), None)), "INVALID_HANDLE.SESSION_CLOSED");
        assert!(refused(first.id().into()).ends_with("TARGET_SESSION_ID_ALREADY_CLOSED"));
        sessions.release(&key("bob", 1), true);
        let reconnected = sessions.get_or_create(&key("bob", 1), None).unwrap();
        assert_ne!(reconnected.server_side_id(), other.server_side_id());
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn operations_are_found_until_released() {
        let folder = tempfile::tempdir().unwrap();
        let sessions = sessions(Limits::default(), &folder).await;
        let session = sessions.get_or_create(&key("", 1), None).unwrap();
        let id = Uuid::from_u128(7).to_string();
        let operation = session.operation(Some(id.clone()), vec![], true).unwrap();
        let again = session.operation(Some(id.clone()), vec![], true);
        assert_eq!(class(again), "INVALID_HANDLE.OPERATION_ALREADY_EXISTS");
        assert_eq!(class(session.operation(Some("x".into()), vec![], true)), "INVALID_HANDLE.FORMAT");
        assert_eq!(session.operation_state(&id), Some(State::Running));
        session.release_operation(&id);
        assert_eq!(operation.state(), State::Cancelled);
        assert_eq!(session.operation_state(&id), Some(State::Cancelled));
        assert_eq!(class(session.find_operation(&id)), "INVALID_HANDLE.OPERATION_ABANDONED");
        assert_eq!(class(session.operation(Some(id), vec![], true)), "INVALID_HANDLE.OPERATION_ABANDONED");
        let unknown = Uuid::from_u128(8).to_string();
        assert_eq!(class(session.find_operation(&unknown)), "INVALID_HANDLE.OPERATION_NOT_FOUND");
        assert_eq!(session.operation_state(&unknown), None);
        session.release_operation(&unknown);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn what_nobody_uses_ends() {
        let folder = tempfile::tempdir().unwrap();
        let mut limits = Limits { idle: Duration::ZERO, sessions_max: 2, ..Limits::default() };
        limits.operation.detached_timeout = Duration::ZERO;
        let sessions = sessions(limits, &folder).await;
        let session = sessions.get_or_create(&key("", 1), None).unwrap();
        let operation = session.operation(None, vec![], true).unwrap();
        let attached = operation.attach(None).unwrap();
        sessions.expire();
        assert_eq!((operation.state(), sessions.len()), (State::Running, 1), "a client is there");
        drop(attached);
        sessions.expire();
        assert_eq!((operation.state(), sessions.len()), (State::Cancelled, 0));

        sessions.get_or_create(&key("", 2), None).unwrap();
        sessions.get_or_create(&key("", 3), None).unwrap();
        // Nobody is idle for long enough to make room.
        assert_eq!(class(sessions.get_or_create(&key("", 4), None)), "TOO_MANY_SESSIONS");
        sessions.close();
        assert!(sessions.is_empty());
    }

    #[test]
    fn the_oldest_are_forgotten() {
        let mut recent = Recent::new(2);
        for number in [1, 2, 2, 3] {
            recent.insert(number, number);
        }
        let found: Vec<_> = [1, 2, 3].iter().map(|number| recent.get(number).copied()).collect();
        assert_eq!(found, [None, Some(2), Some(3)]);
    }
}
