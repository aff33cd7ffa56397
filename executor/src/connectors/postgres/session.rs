//! Connections: made with TLS as the options say, kept for the next task when they are as new, and dropped otherwise.
//!
//! There is no upper bound on connections but that of tasks: a task that reads and writes holds two, and two tasks
//! that each waited for their second would wait for ever.

use super::failure::{Failure, Verdict, pause};
use super::options::{Connection, SslMode, TableName, quoted};
use super::schema::{TableInfo, table};
use crate::metrics::METRICS;
use crate::tls;
use headwater_proto::error::{Error, Result};
use rand::Rng;
use std::collections::{HashMap, HashSet};
use std::ops::Deref;
use std::path::Path;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::task::AbortHandle;
use tokio::time::Instant;
use tokio_postgres::config::{SslMode as DriverSslMode, TargetSessionAttrs};
use tokio_postgres::{Client, Config, NoTls, Statement};
use tokio_postgres_rustls::MakeRustlsConnect;

/// Idle connections kept for one database; more are closed as they come back.
const IDLE_MAX: usize = 8;
/// An idle connection is closed after this time: the server may have restarted, and others want its slots.
const IDLE_FOR: Duration = Duration::from_secs(120);
/// What is known of a table is asked again after this time.
const TABLE_FOR: Duration = Duration::from_secs(60);
/// Tables that are remembered; a process that writes more starts over.
const TABLES_MAX: usize = 1024;
/// Statements that are waited for together: of a transaction the copy, the insert of what was copied, the commit.
const STATEMENTS_MAX: u64 = 3;
/// Beyond what the statements may take.
const ANSWER_GRACE: Duration = Duration::from_secs(5);

/// The connections to one database that nobody uses.
#[derive(Default)]
struct Idle {
    connections: Vec<(Instant, Parts)>,
    tables: HashMap<String, (Instant, Arc<TableInfo>)>,
}

/// A database, and the idle connections to it.
pub struct Database {
    connection: Connection,
    /// For messages.
    pub label: String,
    idle: Mutex<Idle>,
}

impl std::fmt::Debug for Database {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Database").field("label", &self.label).finish_non_exhaustive()
    }
}

/// Connections live in the runtime that made them, so that runtimes do not share them.
type Key = (tokio::runtime::Id, Connection);
static DATABASES: LazyLock<Mutex<HashMap<Key, Arc<Database>>>> = LazyLock::new(Mutex::default);

/// What these locks guard is whole between statements, so that a panic elsewhere does not spoil it.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The database behind these options; no connection is made yet.
pub fn database(connection: &Connection) -> Arc<Database> {
    let key = (tokio::runtime::Handle::current().id(), connection.clone());
    let mut databases = lock(&DATABASES);
    let database = databases.entry(key).or_insert_with(|| {
        let (connection, label) = (connection.clone(), connection.label());
        Arc::new(Database { connection, label, idle: Mutex::default() })
    });
    Arc::clone(database)
}

/// What belongs to one connection.
struct Parts {
    client: Client,
    /// The task that speaks for it.
    line: AbortHandle,
    prepared: HashMap<String, Statement>,
    /// Temporary tables that it has.
    temporary: HashSet<String>,
}

impl Drop for Parts {
    /// Otherwise the line would read a cut-off result to its end.
    fn drop(&mut self) {
        self.line.abort();
    }
}

/// A connection for one task. Given back by [`Conn::keep`]; dropped, it is closed, and with it what it was doing.
pub struct Conn {
    parts: Option<Parts>,
    database: Arc<Database>,
    /// Its session is no longer as new.
    own: bool,
}

impl Deref for Conn {
    type Target = Client;
    fn deref(&self) -> &Client {
        &self.parts.as_ref().expect("only keep takes the parts, and the connection with them").client
    }
}

impl Conn {
    fn parts(&mut self) -> &mut Parts {
        self.parts.as_mut().expect("only keep takes the parts, and the connection with them")
    }

    /// Runs a statement of the user's, which may change the session in any way (another search path, another role): the
    /// connection is then this task's own, and closed by [`Conn::keep`].
    pub async fn initialize(&mut self, statement: &str) -> Result<(), Failure> {
        self.own = true;
        Ok(self.batch_execute(statement).await?)
    }

    /// Gives the connection back. It must not be in a transaction.
    pub fn keep(mut self) {
        if self.own {
            return;
        }
        let Some(parts) = self.parts.take() else { return };
        let mut idle = lock(&self.database.idle);
        let now = Instant::now();
        idle.connections.retain(|(since, parts)| now.duration_since(*since) < IDLE_FOR && !parts.client.is_closed());
        if idle.connections.len() < IDLE_MAX && !parts.client.is_closed() {
            idle.connections.push((now, parts));
        }
    }

    /// The statement, prepared once on this connection.
    pub async fn prepared(&mut self, sql: &str) -> Result<Statement, Failure> {
        if let Some(statement) = self.parts().prepared.get(sql) {
            return Ok(statement.clone());
        }
        let statement = self.prepare(sql).await?;
        let prepared = &mut self.parts().prepared;
        if prepared.len() >= 64 {
            prepared.clear();
        }
        prepared.insert(sql.into(), statement.clone());
        Ok(statement)
    }

    /// Runs `create` unless this connection has the temporary table `name`.
    pub async fn temporary(&mut self, name: &str, create: &str) -> Result<(), Failure> {
        if !self.parts().temporary.contains(name) {
            self.batch_execute(create).await?;
            self.parts().temporary.insert(name.into());
        }
        Ok(())
    }
}

impl Database {
    /// An idle connection, or a new one.
    ///
    /// # Errors
    /// Whatever [`connect`] says.
    pub async fn get(self: &Arc<Self>) -> Result<Conn, Failed> {
        let found = {
            let mut idle = lock(&self.idle);
            let now = Instant::now();
            idle.connections
                .retain(|(since, parts)| now.duration_since(*since) < IDLE_FOR && !parts.client.is_closed());
            idle.connections.pop()
        };
        let parts = match found {
            Some((_, parts)) => parts,
            None => {
                let (client, line) = connect(&self.connection).await?;
                Parts { client, line, prepared: HashMap::new(), temporary: HashSet::new() }
            }
        };
        Ok(Conn { parts: Some(parts), database: Arc::clone(self), own: false })
    }

    /// The outcome of up to three statements. Where `queryTimeout` bounds each, a server that does not even say that it
    /// has given one up is not waited for much longer: it hangs, and so does every idle connection to it.
    pub async fn in_time<T>(&self, statements: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
        let seconds = self.connection.statement_timeout_s;
        if seconds == 0 {
            return statements.await;
        }
        let patience = Duration::from_secs(seconds.saturating_mul(STATEMENTS_MAX)) + ANSWER_GRACE;
        tokio::time::timeout(patience, statements).await.unwrap_or_else(|_| {
            lock(&self.idle).connections.clear();
            Err(Failure::timeout(patience))
        })
    }

    /// A failed statement as an error of ours.
    pub fn error(&self, what: &str, failure: &Failure) -> Error {
        failure.error(what, &self.label)
    }

    /// What is known of a table for a while.
    pub fn known_table(&self, name: &str) -> Option<Arc<TableInfo>> {
        let idle = lock(&self.idle);
        idle.tables.get(name).filter(|(since, _)| since.elapsed() < TABLE_FOR).map(|(_, table)| Arc::clone(table))
    }

    /// Remembers a table.
    pub fn know_table(&self, name: &str, table: &Arc<TableInfo>) {
        let mut idle = lock(&self.idle);
        if idle.tables.len() >= TABLES_MAX {
            idle.tables.clear();
        }
        idle.tables.insert(name.into(), (Instant::now(), Arc::clone(table)));
    }

    /// Forgets a table that may have changed.
    pub fn forget_table(&self, name: &str) {
        lock(&self.idle).tables.remove(name);
    }

    /// Runs a statement of the driver half, which changes nothing when it is repeated.
    pub async fn run(self: &Arc<Self>, sql: &str, what: &str) -> Result<()> {
        let mut retries = Retries::new(DRIVER_RETRIES, what);
        loop {
            let done = async {
                let conn = self.get().await?;
                let done = self.in_time(async { Ok(conn.batch_execute(sql).await?) }).await;
                done.map_err(|failure| Failed::new(failure, what, &self.label))?;
                conn.keep();
                Ok(())
            };
            match done.await {
                Ok(()) => return Ok(()),
                Err(failed) => retries.after(failed).await?,
            }
        }
    }

    /// What the catalog knows of a table now; none when there is no such table.
    pub async fn table(self: &Arc<Self>, name: &TableName, retries_max: u32) -> Result<Option<TableInfo>> {
        let what = format!("look for table {name}");
        let mut retries = Retries::new(retries_max, &what);
        loop {
            let found = async {
                let mut conn = self.get().await?;
                let found = self.in_time(table(&mut conn, name)).await;
                let found = found.map_err(|failure| Failed::new(failure, &what, &self.label))?;
                conn.keep();
                Ok(found)
            };
            match found.await {
                Ok(found) => return Ok(found),
                Err(failed) => retries.after(failed).await?,
            }
        }
    }
}

/// Repeats of what the driver half asks: a client waits.
pub const DRIVER_RETRIES: u32 = 3;

/// An error, and whether it is worth trying again.
#[derive(Debug)]
pub struct Failed {
    /// For the user.
    pub error: Error,
    /// For us.
    pub retry: bool,
}

impl Failed {
    /// A failed statement.
    pub fn new(failure: Failure, what: &str, label: &str) -> Self {
        Self { error: failure.error(what, label), retry: failure.verdict == Verdict::Retry }
    }
}

impl From<Error> for Failed {
    fn from(error: Error) -> Self {
        Self { error, retry: false }
    }
}

/// How often something was tried again, and how often it may be.
#[derive(Debug)]
pub struct Retries<'a> {
    made: u32,
    max: u32,
    what: &'a str,
}

impl<'a> Retries<'a> {
    /// None made yet.
    pub fn new(max: u32, what: &'a str) -> Self {
        Self { made: 0, max, what }
    }

    /// Waits until it is to be tried again.
    ///
    /// # Errors
    /// What it failed of, when trying again is of no use or was done often enough.
    pub async fn after(&mut self, failed: Failed) -> Result<()> {
        if !failed.retry || self.made >= self.max {
            return Err(failed.error);
        }
        let pause = pause(self.made, rand::rng().random());
        METRICS.postgres_retries.inc();
        tracing::debug!(what = self.what, error = %failed.error, retries = self.made, ?pause, "postgres failed, will try again");
        tokio::time::sleep(pause).await;
        self.made += 1;
        Ok(())
    }
}

fn config(connection: &Connection) -> Config {
    let mut config = Config::new();
    for (host, port) in &connection.hosts {
        config.host(host).port(*port);
    }
    config
        .user(&connection.user)
        .dbname(&connection.database)
        .application_name(&connection.application)
        .connect_timeout(Duration::from_millis(connection.connect_timeout_ms))
        // A line that hangs is noticed in half a minute.
        .keepalives(true)
        .keepalives_idle(Duration::from_secs(10))
        .keepalives_interval(Duration::from_secs(5))
        .keepalives_retries(4)
        .tcp_user_timeout(Duration::from_secs(30))
        .ssl_mode(match connection.ssl {
            SslMode::Disable => DriverSslMode::Disable,
            SslMode::Prefer => DriverSslMode::Prefer,
            _ => DriverSslMode::Require,
        });
    if let Some(password) = &connection.password {
        config.password(password);
    }
    if connection.primary {
        config.target_session_attrs(TargetSessionAttrs::ReadWrite);
    }
    config
}

/// How certificates are checked; files are read, so not on an async thread.
fn tls_connect(ssl: SslMode, root: Option<&str>) -> Result<MakeRustlsConnect> {
    tls::install_provider();
    let file = root.filter(|root| *root != "system").map(Path::new);
    let verify = match (ssl, file) {
        (SslMode::Disable | SslMode::Prefer, _) | (SslMode::Require, None) => tls::Verify::Nothing,
        (SslMode::Require | SslMode::VerifyCa, Some(file)) => tls::Verify::Chain(tls::roots_of(file)?),
        (SslMode::VerifyFull, Some(file)) => tls::Verify::Host(tls::roots_of(file)?),
        (SslMode::VerifyCa | SslMode::VerifyFull, None) => {
            let (connect, _) = MakeRustlsConnect::with_native_certs().map_err(|errors| {
                let why: Vec<String> = errors.iter().map(ToString::to_string).collect();
                Error::invalid(
                    "POSTGRES_TLS_FAILED",
                    format!("this system has no root certificates ({}): give option sslrootcert", why.join("; ")),
                )
            })?;
            return Ok(connect);
        }
    };
    Ok(MakeRustlsConnect::new(tls::client_config(verify)?))
}

/// Settings on which the texts that we read and write depend.
fn preamble(connection: &Connection) -> String {
    let mut sql = "SET TimeZone = 'UTC'; SET DateStyle = 'ISO, YMD'; SET IntervalStyle = 'postgres'".to_string();
    if connection.statement_timeout_s > 0 {
        sql.push_str(&format!("; SET statement_timeout = '{}s'", connection.statement_timeout_s));
    }
    if let Some(path) = &connection.search_path {
        let schemas: Vec<String> = path.split(',').map(|name| quoted(name.trim().trim_matches('"'))).collect();
        sql.push_str(&format!("; SET search_path TO {}", schemas.join(", ")));
    }
    sql
}

/// A connection, and the task that speaks for it.
pub async fn connect(connection: &Connection) -> Result<(Client, AbortHandle), Failed> {
    const WHAT: &str = "connect";
    let label = connection.label();
    let config = config(connection);
    // Name, line, encryption and login, for each host.
    let limit = Duration::from_millis(connection.connect_timeout_ms) * 2 * connection.hosts.len().max(1) as u32;
    let work = async {
        let (client, line) = if connection.ssl == SslMode::Disable {
            let (client, line) = config.connect(NoTls).await.map_err(Failure::from)?;
            (client, tokio::spawn(speak(line, label.clone())).abort_handle())
        } else {
            let (ssl, root) = (connection.ssl, connection.ssl_root.clone());
            let tls = tokio::task::spawn_blocking(move || tls_connect(ssl, root.as_deref()))
                .await
                .map_err(|error| Error::internal(format!("reading root certificates ended early: {error}")));
            let tls = match tls.and_then(|made| made) {
                Ok(tls) => tls,
                Err(error) => return Ok(Err(error)),
            };
            let (client, line) = config.connect(tls).await.map_err(Failure::from)?;
            (client, tokio::spawn(speak(line, label.clone())).abort_handle())
        };
        client.batch_execute(&preamble(connection)).await.map_err(Failure::from)?;
        Ok(Ok((client, line)))
    };
    match tokio::time::timeout(limit, work).await {
        Ok(Ok(Ok(made))) => Ok(made),
        Ok(Ok(Err(error))) => Err(error.into()),
        Ok(Err(failure)) => Err(Failed::new(failure, WHAT, &label)),
        Err(_) => Err(Failed::new(Failure::timeout(limit), WHAT, &label)),
    }
}

/// Carries the connection's bytes until its client is dropped.
async fn speak<S, T>(line: tokio_postgres::Connection<S, T>, label: String)
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
    T: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    if let Err(error) = line.await {
        // Whoever waits for an answer gets an error of his own.
        tracing::debug!(%label, %error, "a connection to postgres ended");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connectors::Options;
    use headwater_proto::error::ErrorKind;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    /// A server that lets everybody in and says that each statement was run. Its port, and the connections it has had.
    async fn willing() -> (u16, Arc<AtomicUsize>) {
        const READY: &[u8] = b"Z\0\0\0\x05I";
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let came = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&came);
        tokio::spawn(async move {
            while let Ok((mut line, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(async move {
                    let mut bytes = [0; 4096];
                    assert!(line.read(&mut bytes).await.unwrap() > 0);
                    line.write_all(&[b"R\0\0\0\x08\0\0\0\0", READY].concat()).await.unwrap();
                    while line.read(&mut bytes).await.is_ok_and(|count| count > 0) {
                        line.write_all(&[b"C\0\0\0\x08SET\0", READY].concat()).await.unwrap();
                    }
                });
            }
        });
        (port, came)
    }

    #[tokio::test]
    async fn a_session_that_was_changed_is_nobody_elses() {
        let (port, came) = willing().await;
        let url = format!("postgresql://me@127.0.0.1:{port}/db?sslmode=disable");
        let database = database(&Connection::parse(&Options::new([("url", url.as_str())])).unwrap());
        let taken = async || database.get().await.unwrap();
        taken().await.keep();
        let mut conn = taken().await;
        assert_eq!(came.load(Ordering::SeqCst), 1);
        conn.initialize("SET ROLE somebody").await.unwrap();
        conn.keep();
        taken().await.keep();
        assert_eq!(came.load(Ordering::SeqCst), 2);
    }

    #[tokio::test]
    async fn nobody_listens() {
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let url = format!("postgresql://me:canary-word@127.0.0.1:{port}/db");
        let connection = Connection::parse(&Options::new([("url", url.as_str())])).unwrap();
        let failed = connect(&connection).await.unwrap_err();
        assert_eq!((failed.error.kind, failed.error.class.as_str()), (ErrorKind::Transient, "POSTGRES_UNREACHABLE"));
        assert!(failed.retry && failed.error.message.contains(&port.to_string()), "{}", failed.error);
        assert!(!failed.error.message.contains("canary-word"), "{}", failed.error);
    }

    #[tokio::test]
    async fn what_may_succeed_is_repeated_to_a_bound() {
        for (retry, expect) in [(true, 2), (false, 0)] {
            let mut retries = Retries::new(2, "test");
            while retries.after(Failed { error: Error::internal("no"), retry }).await.is_ok() {}
            assert_eq!(retries.made, expect);
        }
    }
}
