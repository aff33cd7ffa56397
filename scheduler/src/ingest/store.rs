//! The state of runs in PostgreSQL, beside the users: see `migrations/`.
//!
//! One transaction settles a page: its users go to staging, its rejected ones to theirs, its counts to the page. One
//! transaction marks what arrived in the topic. So the ledger is exact wherever a process dies.

use super::decide::{ATTEMPT_USERS, Budget, Facts, Unpublished, budget};
use super::request::{Page, Request, WINDOW, differences};

use headwater_executor::connectors::{Options, postgres, secrets};
use headwater_proto::engine::{IngestRun, IngestState};
use headwater_proto::error::{Error, ErrorKind, Result};
use headwater_proto::ingest::{is_active, state_name};
use headwater_proto::secret::Secret;
use serde_json::Value;
use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};
use tokio_postgres::error::SqlState;
use tokio_postgres::types::{Json, ToSql};
use tokio_postgres::{Client, Row, Transaction};
use uuid::Uuid;

/// Our schema.
pub const SCHEMA: &str = "headwater";
/// Where executors put what they fetch.
pub const ARRIVALS: &str = "headwater.ingest_arrivals";
/// Where executors put what they find in a topic.
pub const DELIVERIES: &str = "headwater.ingest_deliveries";
/// Class of the error of a run that is held elsewhere.
pub const RUN_BUSY: &str = "INGEST_RUN_BUSY";
/// Staging.
pub const USERS: &str = "headwater.users";
/// A user's columns, in the order of staging.
pub const USER_COLUMNS: [&str; 18] = [
    "id",
    "first_name",
    "last_name",
    "gender",
    "address",
    "post_code",
    "email",
    "username",
    "dob",
    "registered_date",
    "phone",
    "picture",
    "country",
    "city",
    "nat",
    "latitude",
    "longitude",
    "ingested_at",
];
/// No statement of ours takes this long; a server that does not answer must not hold a run for ever.
const STATEMENT_MAX: Duration = Duration::from_secs(60);
/// A run is held while its connection lives: the server must notice within half a minute that the other machine is
/// gone, not after its system's two hours. Servers before 12 have no `tcp_user_timeout`.
const HANG_UP: &str = "SELECT set_config(name, wanted, false) FROM pg_catalog.pg_settings JOIN (VALUES
    ('tcp_keepalives_idle', '10'), ('tcp_keepalives_interval', '5'), ('tcp_keepalives_count', '4'),
    ('tcp_user_timeout', '30000')) AS t (name, wanted) USING (name)";
/// Migrations of schedulers that start at once wait for each other.
const MIGRATION_LOCK: i64 = 0x4845_4144_5741_5445;
/// Pages told of at once: more than a wave takes.
const PAGES_TOLD: i64 = 4096;

mod migrations {
    refinery::embed_migrations!("src/ingest/migrations");
}

fn state_of(name: &str) -> IngestState {
    IngestState::from_str_name(&format!("INGEST_STATE_{name}")).unwrap_or(IngestState::Unspecified)
}

/// What [`Store::begin`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Begun {
    /// There was no such run.
    New,
    /// There is one of the same request, and it is active or finished.
    Known,
    /// There was one of the same request that had failed or was cancelled: it goes on.
    Resumed,
}

/// An attempt to publish.
#[derive(Debug, Clone)]
pub struct Attempt {
    /// Its number within the run.
    pub number: i32,
    /// Offsets before it, by partition of the topic.
    pub start_offsets: BTreeMap<i32, i64>,
    /// Seconds since no more slices can be claimed.
    pub closed_for: Duration,
    /// Slices that a task has begun to send.
    pub claimed: i64,
}

/// A connection to one database.
pub struct Store {
    client: Client,
}

/// What a pool of connectors gets to know of the database.
pub fn options(address: &Secret) -> Options {
    Options::new([("url", address.expose())])
}

impl Store {
    /// Connects, and brings the schema up to date.
    ///
    /// # Errors
    /// `POSTGRES_UNREACHABLE`, `POSTGRES_AUTHENTICATION_FAILED`, `INGEST_MIGRATION_FAILED`, `SECRET_NOT_FOUND`.
    pub async fn open(address: &Secret) -> Result<Self> {
        let mut store = Self::connect(address).await?;
        store.migrate().await?;
        Ok(store)
    }

    /// Connects to a database whose schema is up to date.
    ///
    /// # Errors
    /// As [`Store::open`].
    pub async fn connect(address: &Secret) -> Result<Self> {
        let client = postgres::connect(&secrets::resolve(&options(address))?).await?;
        let settings = format!("SET statement_timeout = {}; {HANG_UP}", STATEMENT_MAX.as_millis());
        bounded("set up a session", client.batch_execute(&settings)).await?;
        Ok(Self { client })
    }

    /// Whether the connection is gone.
    pub fn is_closed(&self) -> bool {
        self.client.is_closed()
    }

    async fn migrate(&mut self) -> Result<()> {
        let lock = format!("SELECT pg_advisory_lock({MIGRATION_LOCK})");
        bounded("lock the schema", self.client.batch_execute(&lock)).await?;
        let migrated = self.migrate_locked().await;
        let unlock = format!("SELECT pg_advisory_unlock({MIGRATION_LOCK})");
        bounded("unlock the schema", self.client.batch_execute(&unlock)).await?;
        migrated
    }

    async fn migrate_locked(&mut self) -> Result<()> {
        let known = "SELECT EXISTS (SELECT FROM pg_catalog.pg_namespace WHERE nspname = $1)";
        let row = bounded("look for the schema", self.client.query_one(known, &[&SCHEMA])).await?;
        // Whoever may use a schema may not be allowed to make one.
        if !row.get::<_, bool>(0) {
            let create = format!("CREATE SCHEMA IF NOT EXISTS {SCHEMA}");
            bounded("make schema headwater", self.client.batch_execute(&create)).await?;
        }
        let mut runner = migrations::migrations::runner();
        runner.set_migration_table_name(format!("{SCHEMA}.schema_history"));
        let run = tokio::time::timeout(STATEMENT_MAX, runner.run_async(&mut self.client)).await;
        let run = run.map_err(|_| late("bring the schema up to date"))?;
        run.map(|_| ()).map_err(|error| {
            let mut cause: &dyn std::error::Error = &error;
            while let Some(source) = cause.source() {
                cause = source;
            }
            Error::fatal(
                "INGEST_MIGRATION_FAILED",
                format!(
                    "failed to bring schema {SCHEMA} up to date: {cause}: the role needs CREATE in the database, and a \
                     schema of a newer Headwater needs that Headwater"
                ),
            )
        })
    }

    /// Takes the run for this connection alone, for as long as it lives.
    ///
    /// # Errors
    /// `INGEST_RUN_BUSY` while another scheduler has it.
    pub async fn take(&self, run: &str) -> Result<()> {
        let take = "SELECT pg_try_advisory_lock(hashtextextended('headwater ingest ' || $1::text, 0))";
        let row = bounded("take the run", self.client.query_one(take, &[&run])).await?;
        if row.get::<_, bool>(0) {
            return Ok(());
        }
        Err(Error::transient(
            RUN_BUSY,
            format!(
                "run {run} is held by another scheduler on the same database, or by a run that takes over its users"
            ),
        ))
    }

    /// Waits until nobody holds the run, for so long at most; it is not taken.
    ///
    /// # Errors
    /// What PostgreSQL says, but not that somebody still does.
    pub async fn until_free(&mut self, run: &str, at_most: Duration) -> Result<()> {
        const WHAT: &str = "wait for the run";
        let transaction = self.transaction().await?;
        let limit = at_most.as_millis().max(1).to_string();
        let bound = "SELECT set_config('lock_timeout', $1, true)";
        bounded(WHAT, transaction.query_one(bound, &[&limit])).await?;
        // Ends with the transaction.
        let hold = "SELECT pg_advisory_xact_lock(hashtextextended('headwater ingest ' || $1::text, 0))";
        let held = async {
            match transaction.query_one(hold, &[&run]).await {
                Err(error) if error.code() == Some(&SqlState::LOCK_NOT_AVAILABLE) => Ok(()),
                held => held.map(drop),
            }
        };
        bounded(WHAT, held).await
    }

    /// Lets go of a run before the connection ends. That end does it too, so that no failure is told.
    pub async fn release(&self, run: &str) {
        let release = "SELECT pg_advisory_unlock(hashtextextended('headwater ingest ' || $1::text, 0))";
        if let Err(error) = bounded("let go of the run", self.client.query_one(release, &[&run])).await {
            tracing::debug!(run_id = run, %error, "a run is held until its connection ends");
        }
    }

    /// The run of that id, if there is one.
    ///
    /// # Errors
    /// `INGEST_RUN_EXISTS` when it was asked for something else.
    pub async fn find(&self, run: &str, request: &Request) -> Result<Option<IngestRun>> {
        let select = "SELECT request FROM headwater.ingest_runs WHERE run_id = $1";
        let row = bounded("read the run", self.client.query_opt(select, &[&run])).await?;
        let Some(row) = row else { return Ok(None) };
        let Json(known) = row.get::<_, Json<Value>>(0);
        same(run, &known, &request.public())?;
        self.get(run).await
    }

    /// Writes down a new run and its pages, or finds the run of that id.
    ///
    /// # Errors
    /// `INGEST_RUN_EXISTS` when it was asked for something else.
    pub async fn begin(&mut self, run: &str, request: &Request, seed: &str) -> Result<Begun> {
        let pages = request.pages();
        let public = request.public();
        let transaction = self.transaction().await?;
        let insert =
            "INSERT INTO headwater.ingest_runs (run_id, state, request, source, topic, seed, requested, message)
                      VALUES ($1, 'PENDING', $2, $3, $4, $5, $6, 'starting') ON CONFLICT DO NOTHING";
        let source = public["source"].as_str().unwrap_or_default().to_string();
        let inserted = bounded(
            "write down the run",
            transaction
                .execute(insert, &[&run, &Json(&public), &source, &request.topic, &seed, &(request.users as i64)]),
        )
        .await?;
        if inserted == 1 {
            let insert = "INSERT INTO headwater.ingest_pages (run_id, page, users)
                          SELECT $1::text, page, users FROM unnest($2::integer[], $3::integer[]) AS t (page, users)";
            let numbers: Vec<i32> = pages.iter().map(|page| page.page).collect();
            let users: Vec<i32> = pages.iter().map(|page| page.users).collect();
            bounded("write down the pages", transaction.execute(insert, &[&run, &numbers, &users])).await?;
            commit(transaction).await?;
            return Ok(Begun::New);
        }
        let select = "SELECT request, state FROM headwater.ingest_runs WHERE run_id = $1 FOR UPDATE";
        let row = bounded("read the run", transaction.query_one(select, &[&run])).await?;
        let Json(known) = row.get::<_, Json<Value>>(0);
        same(run, &known, &public)?;
        if !matches!(state_of(row.get(1)), IngestState::Failed | IngestState::Cancelled) {
            return Ok(Begun::Known);
        }
        let update = "UPDATE headwater.ingest_runs SET state = 'PENDING', message = 'resuming', error_class = '',
                      ended_at = NULL, updated_at = now() WHERE run_id = $1";
        bounded("resume the run", transaction.execute(update, &[&run])).await?;
        commit(transaction).await?;
        Ok(Begun::Resumed)
    }

    /// Sets what a run does, or how it ended.
    pub async fn set(&self, run: &str, state: IngestState, message: &str, error_class: &str) -> Result<()> {
        let update = "UPDATE headwater.ingest_runs SET state = $2, message = $3, error_class = $4, updated_at = now(),
                      ended_at = CASE WHEN $5::boolean THEN NULL ELSE coalesce(ended_at, now()) END WHERE run_id = $1";
        let active = is_active(state);
        let name = state_name(state);
        bounded(
            "set the state of the run",
            self.client.execute(update, &[&run, &name, &message, &error_class, &active]),
        )
        .await?;
        Ok(())
    }

    /// Writes down how a run ended that could not be told at its end; whether it is. Not if it goes on elsewhere.
    pub async fn tell(&self, run: &str, state: IngestState, message: &str, error_class: &str) -> Result<bool> {
        let update = "UPDATE headwater.ingest_runs SET state = $2, message = $3, error_class = $4, updated_at = now(),
                      ended_at = coalesce(ended_at, now())
                      WHERE run_id = $1 AND state IN ('PENDING', 'FETCHING', 'PUBLISHING')
                      AND pg_try_advisory_xact_lock(hashtextextended('headwater ingest ' || $1::text, 0))";
        let name = state_name(state);
        let parameters: [&(dyn ToSql + Sync); 4] = [&run, &name, &message, &error_class];
        Ok(bounded("set the state of the run", self.client.execute(update, &parameters)).await? == 1)
    }

    /// One run, as clients see it.
    pub async fn get(&self, run: &str) -> Result<Option<IngestRun>> {
        let sql = format!("{RUNS} WHERE r.run_id = $1");
        let row = bounded("read the run", self.client.query_opt(&sql, &[&run])).await?;
        let Some(row) = row else { return Ok(None) };
        let mut found = run_of(&row);
        let reasons = "SELECT reason, count(*) FROM headwater.ingest_rejected WHERE run_id = $1 GROUP BY reason";
        for row in bounded("read the rejected users", self.client.query(reasons, &[&run])).await? {
            found.rejected_by_reason.insert(row.get(0), row.get::<_, i64>(1) as u64);
        }
        Ok(Some(found))
    }

    /// Runs, newest first, without the reasons of rejected users.
    pub async fn list(&self, limit: i64) -> Result<Vec<IngestRun>> {
        let sql = format!("{RUNS} ORDER BY r.started_at DESC, r.run_id LIMIT $1");
        Ok(bounded("list the runs", self.client.query(&sql, &[&limit])).await?.iter().map(run_of).collect())
    }

    /// The seed of a run.
    pub async fn seed(&self, run: &str) -> Result<String> {
        let select = "SELECT seed FROM headwater.ingest_runs WHERE run_id = $1";
        Ok(bounded("read the run", self.client.query_one(select, &[&run])).await?.get(0))
    }

    /// What the next decision is made of.
    pub async fn facts(&self, run: &str) -> Result<Facts> {
        let pages = "SELECT page, users FROM headwater.ingest_pages WHERE run_id = $1 AND staged_at IS NULL
                     ORDER BY page LIMIT $2";
        let pages = bounded("read the pages", self.client.query(pages, &[&run, &PAGES_TOLD])).await?;
        let attempt = "SELECT attempt FROM headwater.ingest_attempts WHERE run_id = $1 AND state <> 'RESOLVED'
                       ORDER BY attempt LIMIT 1";
        let attempt = bounded("read the attempts", self.client.query_opt(attempt, &[&run])).await?;
        let unpublished = "SELECT count(*), (array_agg(id ORDER BY id DESC))[1] FROM (
                             SELECT id FROM headwater.users WHERE publisher = $1 AND published_at IS NULL
                             ORDER BY id LIMIT $2) AS t";
        let unpublished =
            bounded("count the unpublished users", self.client.query_one(unpublished, &[&run, &ATTEMPT_USERS])).await?;
        Ok(Facts {
            missing: pages.iter().map(|row| Page { page: row.get(0), users: row.get(1) }).collect(),
            unresolved: attempt.map(|row| row.get(0)),
            unpublished: Unpublished {
                users: unpublished.get::<_, i64>(0) as u64,
                last_id: unpublished.get::<_, Option<Uuid>>(1).unwrap_or_default(),
            },
        })
    }

    /// Asks a source's budget, of all runs in this database, for pages. With the number of what was granted, if anything.
    pub async fn grant(&mut self, source: &str, pages: &[Page], limit: Option<u64>) -> Result<(Budget, i64)> {
        let transaction = self.transaction().await?;
        let lock = "SELECT pg_advisory_xact_lock(hashtextextended('headwater ingest source ' || $1::text, 0))";
        bounded("lock the budget", transaction.execute(lock, &[&source])).await?;
        let paused = "SELECT extract(epoch FROM until - clock_timestamp())::double precision
                      FROM headwater.ingest_pauses WHERE source = $1 AND until > clock_timestamp()";
        if let Some(row) = bounded("read the budget", transaction.query_opt(paused, &[&source])).await? {
            return Ok((Budget::Paused(Duration::from_secs_f64(row.get::<_, f64>(0).max(0.0))), 0));
        }
        let window = WINDOW.as_secs_f64();
        let old = "DELETE FROM headwater.ingest_grants WHERE source = $1
                   AND granted_at < clock_timestamp() - make_interval(secs => $2)";
        bounded("read the budget", transaction.execute(old, &[&source, &window])).await?;
        let select = "SELECT extract(epoch FROM clock_timestamp() - granted_at)::double precision, users
                      FROM headwater.ingest_grants WHERE source = $1 ORDER BY granted_at";
        let granted: Vec<(Duration, u64)> = bounded("read the budget", transaction.query(select, &[&source]))
            .await?
            .iter()
            .map(|row| (Duration::from_secs_f64(row.get::<_, f64>(0).max(0.0)), row.get::<_, i64>(1) as u64))
            .collect();
        let budget = match limit {
            Some(limit) => budget(pages, &granted, limit, WINDOW),
            None => Budget::Pages(pages.to_vec()),
        };
        let mut number = 0;
        if let Budget::Pages(pages) = &budget {
            let users: i64 = pages.iter().map(|page| i64::from(page.users)).sum();
            let insert = "INSERT INTO headwater.ingest_grants (source, users) VALUES ($1, $2) RETURNING id";
            number = bounded("write down the budget", transaction.query_one(insert, &[&source, &users])).await?.get(0);
        }
        commit(transaction).await?;
        Ok((budget, number))
    }

    /// Gives users back that were granted and did not come.
    pub async fn give_back(&self, grant: i64, users: i64) -> Result<()> {
        let update = "UPDATE headwater.ingest_grants SET users = greatest(users - $2, 0) WHERE id = $1";
        bounded("write down the budget", self.client.execute(update, &[&grant, &users])).await?;
        Ok(())
    }

    /// Users of those of `pages` that are not settled.
    pub async fn missing(&self, run: &str, pages: &[Page]) -> Result<i64> {
        let numbers: Vec<i32> = pages.iter().map(|page| page.page).collect();
        let select = "SELECT coalesce(sum(users), 0)::bigint FROM headwater.ingest_pages
                      WHERE run_id = $1 AND page = ANY ($2) AND staged_at IS NULL";
        Ok(bounded("read the pages", self.client.query_one(select, &[&run, &numbers])).await?.get(0))
    }

    /// No run of this database asks the source for this long.
    pub async fn pause(&self, source: &str, time: Duration) -> Result<()> {
        let insert = "INSERT INTO headwater.ingest_pauses AS p (source, until)
                      VALUES ($1, clock_timestamp() + make_interval(secs => $2))
                      ON CONFLICT (source) DO UPDATE SET until = greatest(p.until, excluded.until)";
        bounded("write down a pause", self.client.execute(insert, &[&source, &time.as_secs_f64()])).await?;
        Ok(())
    }

    /// Settles those of `pages` that have arrived whole; how many they were.
    pub async fn settle(&mut self, run: &str, pages: &[Page]) -> Result<usize> {
        let numbers: Vec<i32> = pages.iter().map(|page| page.page).collect();
        let transaction = self.transaction().await?;
        let whole = "SELECT p.page FROM headwater.ingest_pages p JOIN headwater.ingest_arrivals a USING (run_id, page)
                     WHERE p.run_id = $1 AND p.page = ANY ($2) AND p.staged_at IS NULL
                     GROUP BY p.page, p.users HAVING count(*) = p.users";
        let whole: Vec<i32> = bounded("look for pages that arrived", transaction.query(whole, &[&run, &numbers]))
            .await?
            .iter()
            .map(|row| row.get(0))
            .collect();
        if whole.is_empty() {
            return Ok(0);
        }
        let columns = USER_COLUMNS[1..].join(", ");
        let settle = format!(
            "WITH taken AS (
               DELETE FROM headwater.ingest_arrivals WHERE run_id = $1 AND page = ANY ($2) RETURNING *
             ), judged AS (
               SELECT *, coalesce(rejected, CASE
                 WHEN id IS NULL THEN 'missing id'
                 WHEN id !~* '^[0-9a-f]{{8}}(-[0-9a-f]{{4}}){{3}}-[0-9a-f]{{12}}$' THEN 'id is no uuid' END) AS verdict
               FROM taken
             ), bad AS (
               INSERT INTO headwater.ingest_rejected (run_id, page, position, reason, user_id, raw)
               SELECT run_id, page, position, verdict, id, raw::json FROM judged WHERE verdict IS NOT NULL
               ON CONFLICT DO NOTHING
             ), good AS (
               INSERT INTO headwater.users (id, {columns}, raw, run_id, page, position, publisher)
               SELECT DISTINCT ON (lower(id)) id::uuid, {columns}, raw::json, run_id, page, position, run_id
               FROM judged WHERE verdict IS NULL ORDER BY lower(id), page, position
               ON CONFLICT (id) DO NOTHING RETURNING page
             ), counts AS (
               SELECT page, count(*)::integer AS fetched, count(verdict)::integer AS rejected FROM judged GROUP BY page
             ), new AS (
               SELECT page, count(*)::integer AS staged FROM good GROUP BY page
             )
             UPDATE headwater.ingest_pages p SET staged_at = now(), fetched = c.fetched, rejected = c.rejected,
               staged = coalesce(n.staged, 0), duplicates = c.fetched - c.rejected - coalesce(n.staged, 0)
             FROM counts c LEFT JOIN new n USING (page)
             WHERE p.run_id = $1 AND p.page = c.page AND p.staged_at IS NULL AND c.fetched = p.users"
        );
        let settled = bounded("stage the users", transaction.execute(&settle, &[&run, &whole])).await?;
        if settled != whole.len() as u64 {
            // A task that ran twice is at these pages just now: rolled back, and looked at again soon.
            return Ok(0);
        }
        touch(&transaction, run).await?;
        commit(transaction).await?;
        Ok(whole.len())
    }

    /// Removes what tasks that were late left of a run.
    pub async fn sweep(&self, run: &str) -> Result<()> {
        for table in [ARRIVALS, DELIVERIES] {
            let delete = format!("DELETE FROM {table} WHERE run_id = $1");
            bounded("remove leftovers", self.client.execute(&delete, &[&run])).await?;
        }
        Ok(())
    }

    /// Takes over users that nobody publishes: a run its own, one that publishes alone all. Gives how many it took, and
    /// how many wait for a run whose last attempt is not resolved.
    ///
    /// A run publishes while it is held. Those that nobody holds are held until the end of this, so that none of them
    /// goes on meanwhile; what their rows say may be long past.
    pub async fn claim(&mut self, run: &str, everybody: bool) -> Result<(u64, u64)> {
        let transaction = self.transaction().await?;
        let hold = "SELECT publisher, pg_try_advisory_xact_lock(hashtextextended('headwater ingest ' || publisher, 0))
                    FROM (SELECT DISTINCT u.publisher FROM headwater.users u WHERE u.published_at IS NULL
                          AND u.publisher <> $1::text AND ($2::boolean OR u.run_id = $1)) AS t";
        let ended: Vec<String> = bounded("take over users", transaction.query(hold, &[&run, &everybody]))
            .await?
            .iter()
            .filter(|row| row.get(1))
            .map(|row| row.get(0))
            .collect();
        let others = "u.published_at IS NULL AND u.publisher = ANY ($3::text[]) AND ($2::boolean OR u.run_id = $1)";
        let unresolved = "EXISTS (SELECT FROM headwater.ingest_attempts a
                                  WHERE a.run_id = u.publisher AND a.state <> 'RESOLVED')";
        let update = format!(
            "WITH taken AS (UPDATE headwater.users u SET publisher = $1 WHERE {others} AND NOT {unresolved}
                            RETURNING u.run_id <> $1 AS of_others)
             SELECT count(*), count(*) FILTER (WHERE of_others) FROM taken"
        );
        let row = bounded("take over users", transaction.query_one(&update, &[&run, &everybody, &ended])).await?;
        let (taken, of_others): (i64, i64) = (row.get(0), row.get(1));
        let waiting = format!("SELECT count(*) FROM headwater.users u WHERE {others} AND {unresolved}");
        let waiting: i64 =
            bounded("take over users", transaction.query_one(&waiting, &[&run, &everybody, &ended])).await?.get(0);
        let count =
            "UPDATE headwater.ingest_runs SET claimed = claimed + $2::bigint, updated_at = now() WHERE run_id = $1";
        bounded("take over users", transaction.execute(count, &[&run, &of_others])).await?;
        commit(transaction).await?;
        Ok((taken as u64, waiting as u64))
    }

    /// Opens an attempt to publish; its number.
    pub async fn open_attempt(
        &self,
        run: &str,
        topic: &str,
        start_offsets: &BTreeMap<i32, i64>,
        users: Unpublished,
        slices: i32,
    ) -> Result<i32> {
        let insert = "INSERT INTO headwater.ingest_attempts
                        (run_id, attempt, state, topic, start_offsets, last_id, users, slices)
                      SELECT $1::text, coalesce(max(attempt), 0) + 1, 'OPEN', $2::text, $3::jsonb, $4::uuid, $5::bigint, $6::integer
                      FROM headwater.ingest_attempts WHERE run_id = $1 RETURNING attempt";
        let count = users.users as i64;
        let row = bounded(
            "open an attempt to publish",
            self.client.query_one(insert, &[&run, &topic, &Json(start_offsets), &users.last_id, &count, &slices]),
        )
        .await?;
        Ok(row.get(0))
    }

    /// Closes an attempt: no slice of it can be claimed any more.
    pub async fn close_attempt(&self, run: &str, attempt: i32) -> Result<Attempt> {
        let close = "UPDATE headwater.ingest_attempts SET state = 'CLOSED', closed_at = now()
                     WHERE run_id = $1 AND attempt = $2 AND state = 'OPEN'";
        bounded("close an attempt to publish", self.client.execute(close, &[&run, &attempt])).await?;
        let select = "SELECT start_offsets,
                        extract(epoch FROM clock_timestamp() - coalesce(closed_at, now()))::double precision,
                        (SELECT count(*) FROM headwater.ingest_claims c
                         WHERE c.run_id = a.run_id AND c.attempt = a.attempt)
                      FROM headwater.ingest_attempts a WHERE run_id = $1 AND attempt = $2";
        let row = bounded("read an attempt to publish", self.client.query_one(select, &[&run, &attempt])).await?;
        let Json(start_offsets) = row.get::<_, Json<BTreeMap<i32, i64>>>(0);
        Ok(Attempt {
            number: attempt,
            start_offsets,
            closed_for: Duration::from_secs_f64(row.get::<_, f64>(1).max(0.0)),
            claimed: row.get(2),
        })
    }

    /// Marks the users that were found in the topic; with `resolved` nothing more can arrive, and the attempt is done.
    /// Gives how many were marked, and how many records there were beside the first of each user.
    pub async fn mark(&mut self, run: &str, topic: &str, attempt: i32, resolved: bool) -> Result<(u64, u64)> {
        let transaction = self.transaction().await?;
        // What the planner believes of tables that were just filled makes it compare everybody with everybody.
        bounded("mark what was published", transaction.batch_execute(&format!("ANALYZE {DELIVERIES}"))).await?;
        let doubled = "SELECT count(*) - count(DISTINCT d.user_id) FROM headwater.ingest_deliveries d
                       WHERE d.run_id = $1 AND d.attempt = $2 AND EXISTS (
                         SELECT FROM headwater.users u WHERE u.id = d.user_id AND u.publisher = $1)";
        let doubled: i64 =
            bounded("mark what was published", transaction.query_one(doubled, &[&run, &attempt])).await?.get(0);
        if doubled > 0 {
            let later = "DELETE FROM headwater.ingest_deliveries d WHERE d.run_id = $1 AND d.attempt = $2 AND EXISTS (
                           SELECT FROM headwater.ingest_deliveries e
                           WHERE e.run_id = $1 AND e.attempt = $2 AND e.user_id = d.user_id
                           AND (e.topic_partition, e.record_offset) < (d.topic_partition, d.record_offset))";
            bounded("mark what was published", transaction.execute(later, &[&run, &attempt])).await?;
        }
        let mark = "WITH marked AS (
                      UPDATE headwater.users u SET published_at = now(), published_topic = $3::text,
                        published_partition = d.topic_partition, published_offset = d.record_offset
                      FROM headwater.ingest_deliveries d
                      WHERE d.run_id = $1 AND d.attempt = $2
                        AND u.id = d.user_id AND u.publisher = $1 AND u.published_at IS NULL
                      RETURNING u.run_id, u.published_partition, u.published_offset
                    )
                    SELECT run_id, published_partition, count(*), max(published_offset) + 1 FROM marked GROUP BY 1, 2";
        let marked = bounded("mark what was published", transaction.query(mark, &[&run, &attempt, &topic])).await?;
        // The users count for the run that publishes them, and for the one that brought them.
        let mut runs: BTreeMap<String, (i64, BTreeMap<i32, i64>)> = BTreeMap::new();
        let mut total = 0;
        for row in &marked {
            let (owner, partition, users, end): (String, i32, i64, i64) =
                (row.get(0), row.get(1), row.get(2), row.get(3));
            total += users as u64;
            let both = [run.to_string(), owner];
            let counted = if both[0] == both[1] { &both[..1] } else { &both[..] };
            for name in counted {
                let (count, ends) = runs.entry(name.clone()).or_default();
                *count += users;
                let known = ends.entry(partition).or_default();
                *known = (*known).max(end);
            }
        }
        for (name, (users, ends)) in &runs {
            let select = "SELECT end_offsets, topic FROM headwater.ingest_runs WHERE run_id = $1 FOR UPDATE";
            let row = bounded("mark what was published", transaction.query_opt(select, &[name])).await?;
            let Some(row) = row else { continue };
            let Json(mut all) = row.get::<_, Json<BTreeMap<i32, i64>>>(0);
            if row.get::<_, &str>(1) == topic {
                for (partition, end) in ends {
                    let known = all.entry(*partition).or_default();
                    *known = (*known).max(*end);
                }
            }
            let update = "UPDATE headwater.ingest_runs SET published = published + $2::bigint, end_offsets = $3::jsonb,
                          updated_at = now() WHERE run_id = $1";
            bounded("mark what was published", transaction.execute(update, &[name, users, &Json(&all)])).await?;
        }
        let delete = "DELETE FROM headwater.ingest_deliveries WHERE run_id = $1 AND attempt = $2";
        bounded("mark what was published", transaction.execute(delete, &[&run, &attempt])).await?;
        if resolved {
            let resolve = "UPDATE headwater.ingest_attempts SET state = 'RESOLVED', resolved_at = now()
                           WHERE run_id = $1 AND attempt = $2";
            bounded("mark what was published", transaction.execute(resolve, &[&run, &attempt])).await?;
        }
        commit(transaction).await?;
        Ok((total, doubled as u64))
    }

    async fn transaction(&mut self) -> Result<Transaction<'_>> {
        bounded("begin a transaction", self.client.transaction()).await
    }
}

/// A run and the sums of its pages.
const RUNS: &str = "SELECT r.run_id, r.state, r.source, r.topic, r.seed, r.request->>'format', r.requested, r.claimed,
       r.published, r.end_offsets, r.message, r.error_class, r.started_at, r.updated_at, r.ended_at,
       coalesce(p.fetched, 0), coalesce(p.staged, 0), coalesce(p.rejected, 0), coalesce(p.duplicates, 0)
FROM headwater.ingest_runs r LEFT JOIN LATERAL (
  SELECT sum(fetched) AS fetched, sum(staged) AS staged, sum(rejected) AS rejected, sum(duplicates) AS duplicates
  FROM headwater.ingest_pages p WHERE p.run_id = r.run_id) AS p ON true";

fn run_of(row: &Row) -> IngestRun {
    let count = |index: usize| row.get::<_, i64>(index).max(0) as u64;
    let Json(end_offsets) = row.get::<_, Json<BTreeMap<i32, i64>>>(9);
    IngestRun {
        run_id: row.get(0),
        state: state_of(row.get(1)).into(),
        source: row.get(2),
        topic: row.get(3),
        seed: row.get(4),
        format: row.get::<_, Option<String>>(5).unwrap_or_default(),
        requested: count(6),
        fetched: count(15),
        staged: count(16) + count(7),
        published: count(8),
        rejected: count(17),
        duplicates: count(18),
        rejected_by_reason: Default::default(),
        message: row.get(10),
        error_class: row.get(11),
        started_at: Some(row.get::<_, SystemTime>(12).into()),
        updated_at: Some(row.get::<_, SystemTime>(13).into()),
        ended_at: row.get::<_, Option<SystemTime>>(14).map(Into::into),
        end_offsets: end_offsets.into_iter().collect(),
    }
}

async fn touch(transaction: &Transaction<'_>, run: &str) -> Result<()> {
    let update = "UPDATE headwater.ingest_runs SET updated_at = now() WHERE run_id = $1";
    bounded("set the state of the run", transaction.execute(update, &[&run])).await?;
    Ok(())
}

async fn commit(transaction: Transaction<'_>) -> Result<()> {
    bounded("commit", transaction.commit()).await
}

/// Whether two requests are for the same run.
fn same(run: &str, known: &Value, public: &Value) -> Result<()> {
    let differences = differences(known, public);
    if differences.is_empty() { Ok(()) } else { Err(run_exists(run, &differences)) }
}

/// `INGEST_RUN_EXISTS`, with what differs.
pub fn run_exists(run: &str, differences: &[String]) -> Error {
    Error::new(
        ErrorKind::AlreadyExists,
        "INGEST_RUN_EXISTS",
        format!(
            "run {run} exists and was asked for something else: {}: choose another run id, or ask for the same",
            differences.join("; ")
        ),
    )
}

fn late(what: &str) -> Error {
    Error::transient("POSTGRES_TIMEOUT", format!("failed to {what}: postgres did not answer in {STATEMENT_MAX:?}"))
}

/// Runs a statement in bounded time; its error as ours.
async fn bounded<T>(what: &str, work: impl Future<Output = Result<T, tokio_postgres::Error>>) -> Result<T> {
    match tokio::time::timeout(STATEMENT_MAX, work).await {
        Ok(done) => done.map_err(|error| postgres::failed(what, &error)),
        Err(_) => Err(late(what)),
    }
}

#[cfg(test)]
pub(super) mod tests;
