//! Against a real Cassandra at `CASSANDRA_ADDRESS` (`host:port`); skipped where there is none.

use super::options::SinkOptions;
use super::session::{Cluster, cluster};
use super::{Cassandra, FORMAT};
use crate::connectors::{Connector, Options, SinkContext, WriteCounts, WriteMode, WriteTask};
use arrow::array::{ArrayRef, AsArray, Int32Array, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{Int32Type, Int64Type};
use arrow::util::pretty::pretty_format_batches;
use datafusion::execution::TaskContext;
use datafusion::prelude::{SessionConfig, SessionContext};
use headwater_proto::error::{ErrorKind, Result};
use std::sync::Arc;

/// A keyspace of its own, dropped by the next run of the same test.
struct Space {
    address: String,
    keyspace: String,
    cluster: Arc<Cluster>,
}

impl Space {
    async fn new(test: &str) -> Option<Self> {
        let Ok(address) = std::env::var("CASSANDRA_ADDRESS") else {
            let required = std::env::var("HEADWATER_REQUIRE_SERVICES").is_ok_and(|value| value == "1");
            assert!(!required, "HEADWATER_REQUIRE_SERVICES=1, and CASSANDRA_ADDRESS is not set");
            println!("skipped: cassandra {test}: CASSANDRA_ADDRESS is not set");
            return None;
        };
        let keyspace = format!("headwater_{test}");
        let options = Options::new([("keyspace", "k"), ("table", "t"), ("spark.cassandra.connection.host", &address)]);
        let cluster = cluster(&SinkOptions::parse(&options).unwrap().connection).await.unwrap();
        let space = Self { address, keyspace, cluster };
        space.run(&format!("DROP KEYSPACE IF EXISTS {}", space.keyspace)).await;
        space
            .run(&format!(
                "CREATE KEYSPACE {} WITH replication = {{'class': 'SimpleStrategy', 'replication_factor': 1}}",
                space.keyspace
            ))
            .await;
        Some(space)
    }

    /// Runs CQL; `KS.` is the keyspace.
    async fn run(&self, cql: &str) {
        self.cluster.run(&cql.replace("KS.", &format!("{}.", self.keyspace)), cql).await.unwrap();
    }

    fn options(&self, table: &str, pairs: &[(&str, &str)]) -> Options {
        let mut options = Options::new([
            ("keyspace", self.keyspace.as_str()),
            ("table", table),
            ("spark.cassandra.connection.host", self.address.as_str()),
        ]);
        pairs.iter().for_each(|(key, value)| options.set(*key, value.replace("KS.", &format!("{}.", self.keyspace))));
        options
    }

    async fn write(&self, table: &str, pairs: &[(&str, &str)], batches: &[RecordBatch]) -> Result<WriteCounts> {
        self.write_in(table, pairs, batches, WriteMode::Append).await
    }

    async fn write_in(
        &self,
        table: &str,
        pairs: &[(&str, &str)],
        batches: &[RecordBatch],
        mode: WriteMode,
    ) -> Result<WriteCounts> {
        let task = WriteTask { batch_id: 3, batch_time_ms: None, partition: 0, attempt: "a".into() };
        self.write_as(task, table, pairs, batches, mode).await
    }

    async fn write_as(
        &self,
        task: WriteTask,
        table: &str,
        pairs: &[(&str, &str)],
        batches: &[RecordBatch],
        mode: WriteMode,
    ) -> Result<WriteCounts> {
        let schema = batches[0].schema();
        let context = SinkContext { schema: Arc::clone(&schema), mode, query: "q".into(), streaming: true };
        let sink = Cassandra.sink(&self.options(table, pairs), context).await?;
        sink.prepare().await?;
        sink.prepare().await?;
        let writer = Cassandra.writer(&sink.writer_config())?;
        let mut task = writer.open(task, schema, Arc::new(TaskContext::default())).await?;
        for batch in batches {
            task.write(batch.clone()).await?;
        }
        Ok(task.close().await?.0)
    }

    /// Runs SQL over the named tables.
    async fn sql(&self, tables: &[(&str, &[(&str, &str)])], sql: &str) -> Vec<RecordBatch> {
        let context =
            SessionContext::new_with_config(SessionConfig::new().with_target_partitions(4).with_batch_size(100));
        for (table, pairs) in tables {
            let provider = Cassandra.table(&self.options(table, pairs), None).await.unwrap();
            context.register_table(*table, provider).unwrap();
        }
        context.sql(sql).await.unwrap().collect().await.unwrap()
    }

    async fn printed(&self, table: &str, sql: &str) -> String {
        pretty_format_batches(&self.sql(&[(table, &[])], sql).await).unwrap().to_string()
    }

    async fn count(&self, table: &str) -> i64 {
        let batches = self.sql(&[(table, &[])], &format!("SELECT count(*) FROM {table}")).await;
        batches[0].column(0).as_primitive::<Int64Type>().value(0)
    }
}

fn id(number: u128) -> String {
    uuid::Uuid::from_u128(number).to_string()
}

fn texts(values: &[Option<&str>]) -> ArrayRef {
    Arc::new(StringArray::from(values.to_vec()))
}

fn batch(columns: Vec<(&str, ArrayRef)>) -> RecordBatch {
    RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, column)| (name, column, true))).unwrap()
}

fn users(ids: &[Option<&str>], names: &[Option<&str>]) -> RecordBatch {
    batch(vec![("id", texts(ids)), ("name", texts(names))])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tables_are_created_on_request_and_upserts_repeat() {
    let Some(space) = Space::new("upsert").await else { return };
    let rows: Vec<String> = (0..20_000).map(id).collect();
    let ids: Vec<Option<&str>> = rows.iter().map(|row| Some(row.as_str())).collect();
    let users = users(&ids, &ids);
    let create = [("headwater.createTable", "true"), ("headwater.primaryKey", "id")];
    for _ in 0..2 {
        let counts =
            space.write("users", &create, &[users.slice(0, 15_000), users.slice(15_000, 5_000)]).await.unwrap();
        assert_eq!((counts.rows, counts.bad_rows), (20_000, 0));
        assert_eq!(space.count("users").await, 20_000);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn text_becomes_uuid_and_nulls_replace_nothing() {
    let Some(space) = Space::new("nulls").await else { return };
    space.run("CREATE TABLE KS.users (id uuid PRIMARY KEY, name text)").await;
    let one = id(1);
    let key = [Some(one.as_str())];
    space.write("users", &[], &[users(&key, &[Some("ada")])]).await.unwrap();
    space.write("users", &[], &[users(&key, &[None])]).await.unwrap();
    assert!(space.printed("users", "SELECT name FROM users").await.contains("| ada "));
    space.write("users", &[("spark.cassandra.output.ignoreNulls", "false")], &[users(&key, &[None])]).await.unwrap();
    assert!(!space.printed("users", "SELECT name FROM users").await.contains("ada"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_rows_with_one_key_the_last_wins() {
    let Some(space) = Space::new("order").await else { return };
    space.run("CREATE TABLE KS.users (id uuid PRIMARY KEY, name text)").await;
    let keys: Vec<String> = (0..2_000).map(|n| id(n % 100)).collect();
    // Larger texts come first: Cassandra would keep them where timestamps are equal.
    let names: Vec<String> = (0..2_000).map(|n| format!("{:05}", 99_999 - n)).collect();
    let borrowed = |texts: &[String]| -> Vec<Option<String>> { texts.iter().cloned().map(Some).collect() };
    let batch = batch(vec![
        ("id", Arc::new(StringArray::from(borrowed(&keys)))),
        ("name", Arc::new(StringArray::from(borrowed(&names)))),
    ]);
    space.write("users", &[], &[batch]).await.unwrap();
    let printed = space.printed("users", "SELECT max(name) AS m, count(*) AS n FROM users").await;
    assert!(printed.contains("| 98099 | 100 |"), "{printed}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_records_follow_the_policy() {
    let Some(space) = Space::new("bad").await else { return };
    space.run("CREATE TABLE KS.users (id uuid PRIMARY KEY, name text)").await;
    let one = id(1);
    let rows = users(&[Some(&one), None, Some("no uuid")], &[Some("a"), Some("b"), Some("c")]);
    let counts = space.write("users", &[], std::slice::from_ref(&rows)).await.unwrap();
    assert_eq!((counts.rows, counts.bad_rows), (1, 2));
    let failed =
        space.write("users", &[("headwater.badRecords", "fail")], std::slice::from_ref(&rows)).await.unwrap_err();
    assert!(
        failed.class == "CASSANDRA_BAD_RECORD" && failed.message.contains("null primary key column id"),
        "{failed}"
    );
    for _ in 0..2 {
        let counts = space
            .write("users", &[("headwater.deadLetter.table", "KS.bad")], std::slice::from_ref(&rows))
            .await
            .unwrap();
        assert_eq!((counts.rows, counts.bad_rows), (1, 2));
        assert_eq!(space.count("bad").await, 2);
    }
    // What cannot be told apart is kept as often as it came.
    let nobody = users(&[None, None, None], &[None, None, None]);
    let letters = [("headwater.deadLetter.table", "KS.nobody")];
    for _ in 0..2 {
        space.write("users", &letters, std::slice::from_ref(&nobody)).await.unwrap();
        assert_eq!(space.count("nobody").await, 3);
    }
    // What the rows have beside the table, letters alone have.
    let rows = batch(vec![
        ("_corrupt_record", texts(&[None, Some("{oops")])),
        ("id", texts(&[Some(&one), None])),
        ("name", texts(&[Some("a"), None])),
    ]);
    let letters = [("headwater.deadLetter.table", "KS.texts"), ("headwater.deadLetter.columns", "_corrupt_record")];
    let counts = space.write("users", &letters, &[rows]).await.unwrap();
    assert_eq!((counts.rows, counts.bad_rows), (1, 1));
    let printed = space.printed("texts", "SELECT record FROM texts").await;
    assert!(printed.contains(r#"{"_corrupt_record":"{oops","id":null,"name":null}"#), "{printed}");
    let printed = space.printed("bad", "SELECT reason, record, batch_id, query FROM bad ORDER BY reason").await;
    assert!(
        printed.contains(r#"| column id: 'no uuid' is no uuid | {"id":"no uuid","name":"c"} | 3        | q "#),
        "{printed}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_that_cassandra_refuses_are_bad_records_alone() {
    let Some(space) = Space::new("refused").await else { return };
    space.run("CREATE TABLE KS.kept (id int PRIMARY KEY, n int)").await;
    let batch = batch(vec![
        ("id", Arc::new(Int32Array::from_iter_values(0..50))),
        ("keep", Arc::new(Int32Array::from_iter_values((0..50).map(|n| if n == 7 { -5 } else { 100_000 })))),
    ]);
    let counts = space.write("kept", &[("ttl", "keep")], &[batch]).await.unwrap();
    assert_eq!((counts.rows, counts.bad_rows), (49, 1));
    assert_eq!(space.count("kept").await, 49);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_live_and_are_dated_as_told() {
    let Some(space) = Space::new("ttl").await else { return };
    space.run("CREATE TABLE KS.t (id int PRIMARY KEY, n int)").await;
    let rows = batch(vec![
        ("id", Arc::new(Int32Array::from(vec![1, 2]))),
        ("n", Arc::new(Int32Array::from(vec![10, 20]))),
        ("keep", Arc::new(Int32Array::from(vec![Some(1000), None]))),
        ("made", Arc::new(Int64Array::from(vec![5_000, 6_000]))),
    ]);
    space.write("t", &[("ttl", "keep"), ("writetime", "made")], &[rows]).await.unwrap();
    let metadata: &[(&str, &str)] = &[("ttl.n", "n_ttl"), ("writetime.n", "n_made")];
    let read = space.sql(&[("t", metadata)], "SELECT id, n, n_ttl, n_made FROM t ORDER BY id").await;
    let ttl = read[0].column(2).as_primitive::<Int32Type>();
    assert!((900..=1000).contains(&ttl.value(0)) && read[0].column(2).is_null(1), "{ttl:?}");
    assert_eq!(read[0].column(3).as_primitive::<Int64Type>().values(), &[5_000, 6_000]);
    // An older time loses.
    let rows = batch(vec![("id", Arc::new(Int32Array::from(vec![1]))), ("n", Arc::new(Int32Array::from(vec![11])))]);
    space.write("t", &[("writetime", "4000")], std::slice::from_ref(&rows)).await.unwrap();
    assert!(space.printed("t", "SELECT n FROM t WHERE id = 1").await.contains("| 10 "));
    space.write("t", &[("spark.cassandra.output.ifNotExists", "true")], std::slice::from_ref(&rows)).await.unwrap();
    assert!(space.printed("t", "SELECT n FROM t WHERE id = 1").await.contains("| 10 "));
    space.write("t", &[("ttl", "900")], &[rows]).await.unwrap();
    let read = space.sql(&[("t", metadata)], "SELECT n_ttl FROM t WHERE id = 1").await;
    assert!((800..=900).contains(&read[0].column(0).as_primitive::<Int32Type>().value(0)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_batches_the_later_wins_whenever_they_are_written() {
    let Some(space) = Space::new("batches").await else { return };
    space.run("CREATE TABLE KS.t (id int PRIMARY KEY, n int)").await;
    async fn write(space: &Space, batch_id: i64, pairs: &[(&str, &str)], n: i32) {
        let columns: [ArrayRef; 2] = [Arc::new(Int32Array::from(vec![1])), Arc::new(Int32Array::from(vec![n]))];
        let [ids, values] = columns;
        let batch_time_ms = Some(1_700_000_000_000 + batch_id);
        let task = WriteTask { batch_id, batch_time_ms, partition: 0, attempt: "a".into() };
        let rows = batch(vec![("id", ids), ("n", values)]);
        space.write_as(task, "t", pairs, &[rows], WriteMode::Append).await.unwrap();
    }
    async fn found(space: &Space) -> (i32, i64) {
        let metadata: &[(&str, &str)] = &[("writetime.n", "made")];
        let read = space.sql(&[("t", metadata)], "SELECT n, made FROM t").await;
        let (n, made) = (read[0].column(0), read[0].column(1));
        (n.as_primitive::<Int32Type>().value(0), made.as_primitive::<Int64Type>().value(0))
    }
    write(&space, 1, &[], 10).await;
    write(&space, 2, &[], 20).await;
    let second = (20, 1_700_000_000_002_000);
    assert_eq!(found(&space).await, second);
    // A task of the first batch that nobody waits for any more; then the second runs again.
    write(&space, 1, &[], 99).await;
    assert_eq!(found(&space).await, second);
    write(&space, 2, &[], 20).await;
    assert_eq!(found(&space).await, second);
    // Who names a time is given it.
    write(&space, 3, &[("writetime", "1700000000009000")], 30).await;
    assert_eq!(found(&space).await, (30, 1_700_000_000_009_000));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn counters_add_up() {
    let Some(space) = Space::new("counter").await else { return };
    space.run("CREATE TABLE KS.hits (page text PRIMARY KEY, n counter)").await;
    let rows = batch(vec![
        ("page", texts(&[Some("a"), Some("a"), Some("b")])),
        ("n", Arc::new(Int64Array::from(vec![1, 2, 5]))),
    ]);
    space.write("hits", &[], &[rows]).await.unwrap();
    let printed = space.printed("hits", "SELECT page, n FROM hits ORDER BY page").await;
    assert!(printed.contains("| a    | 3 |") && printed.contains("| b    | 5 |"), "{printed}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reads_cover_the_ring_and_filters_go_down() {
    let Some(space) = Space::new("read").await else { return };
    space.run("CREATE TABLE KS.events (device int, at int, kind text, n bigint, PRIMARY KEY (device, at))").await;
    space.run("CREATE INDEX events_kind ON KS.events (kind)").await;
    let numbers = 0..30_000;
    let rows = batch(vec![
        ("device", Arc::new(Int32Array::from_iter_values(numbers.clone().map(|n| n / 30)))),
        ("at", Arc::new(Int32Array::from_iter_values(numbers.clone().map(|n| n % 30)))),
        ("kind", Arc::new(StringArray::from_iter_values(numbers.clone().map(|n| format!("k{}", n % 7))))),
        ("n", Arc::new(Int64Array::from_iter_values(numbers.map(i64::from)))),
    ]);
    space.write("events", &[], &[rows]).await.unwrap();
    let check = async |filter: &str, expect: &str, down: &str| {
        let sql = format!("SELECT count(*) AS c, sum(n) AS s FROM events WHERE {filter}");
        let printed = space.printed("events", &sql).await;
        assert!(printed.contains(expect), "{filter}: {printed}");
        let plan = space.printed("events", &format!("EXPLAIN {sql}")).await;
        assert!(plan.contains(down), "{filter}: {plan}");
    };
    check("true", "| 30000 | 449985000 |", "SourceScanExec").await;
    check("device = 5", "| 30 | 4935 |", "partial_filters=[events.device = Int32(5)]").await;
    check("device IN (5, 6, 7, 8, 9) AND at < 2", "| 10 | 2105 |", "events.at < Int32(2)").await;
    check("at >= 28", "| 2000 | 30027000 |", "partial_filters=[events.at >= Int32(28)]").await;
    check("kind = 'k3' AND n < 100", "| 14 ", "partial_filters=[").await;
    check("n < 100", "| 100 | 4950 |", "FilterExec").await;
    let limited = space.sql(&[("events", &[])], "SELECT kind FROM events LIMIT 250").await;
    assert_eq!(limited.iter().map(RecordBatch::num_rows).sum::<usize>(), 250);
    let off = space.sql(&[("events", &[("pushdown", "false")])], "SELECT count(*) FROM events WHERE device = 5").await;
    assert_eq!(off[0].column(0).as_primitive::<Int64Type>().value(0), 30);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn filters_that_go_down_lose_no_rows() {
    let Some(space) = Space::new("lookups").await else { return };
    space.run("CREATE TABLE KS.prices (price decimal PRIMARY KEY, n int)").await;
    space.run("INSERT INTO KS.prices (price, n) VALUES (1.50, 7)").await;
    let printed = space.printed("prices", "SELECT n FROM prices WHERE price = CAST('1.50' AS DECIMAL(38, 18))").await;
    assert!(printed.contains("| 7 |"), "{printed}");
    space.run("CREATE TABLE KS.ranks (id int, rank decimal, n int, PRIMARY KEY (id, rank))").await;
    space.run("INSERT INTO KS.ranks (id, rank, n) VALUES (1, 1.50, 7)").await;
    let sql = "SELECT n FROM ranks WHERE id = 1 AND rank = CAST('1.50' AS DECIMAL(38, 18))";
    let printed = space.printed("ranks", sql).await;
    assert!(printed.contains("| 7 |"), "{printed}");
    space.run("CREATE TABLE KS.names (name text PRIMARY KEY, n int)").await;
    space.run("INSERT INTO KS.names (name, n) VALUES ('a', 7)").await;
    let printed = space.printed("names", "SELECT n FROM names WHERE name = ''").await;
    assert!(!printed.contains('7'), "{printed}");
    let printed = space.printed("names", "SELECT n FROM names WHERE name IN ('', 'a')").await;
    assert!(printed.contains("| 7 |"), "{printed}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_type_comes_back() {
    let Some(space) = Space::new("types").await else { return };
    const COLUMNS: &str = "id int PRIMARY KEY, a ascii, b bigint, c blob, d boolean, e date, f decimal, g double, \
        h duration, i float, j inet, k smallint, l time, m timestamp, n timeuuid, o tinyint, p uuid, q varint, \
        r list<int>, s set<text>, u map<text, int>, v tuple<int, text>, w vector<float, 2>, x frozen<KS.point>";
    space.run("CREATE TYPE KS.point (x int, y text)").await;
    space.run(&format!("CREATE TABLE KS.t ({COLUMNS})")).await;
    space
        .run(
            "INSERT INTO KS.t (id, a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, q, r, s, u, v, w, x) VALUES (1, 'x', 5, \
             0x00ff, true, '2020-02-29', 12.5, 1.5, 1h30m, 2.5, '10.0.0.1', 3, '01:02:03', '2020-01-02T03:04:05.678Z', \
             50554d6e-29bb-11e5-b345-feff819cdc9f, 4, 00112233-4455-6677-8899-aabbccddeeff, 123456789012345678901234, \
             [1, 2], {'y', 'x'}, {'k': 7}, (1, 'z'), [0.5, 1.5], {x: 1, y: 'q'})",
        )
        .await;
    let read = space.sql(&[("t", &[])], "SELECT * FROM t").await;
    let columns: Vec<String> = (0..read[0].num_columns())
        .map(|at| arrow::util::display::array_value_to_string(read[0].column(at), 0).unwrap())
        .collect();
    assert_eq!(
        columns.join(" | "),
        "1 | x | 5 | 00ff | true | 2020-02-29 | 12.500000000000000000 | 1.5 | 1h30m | 2.5 | 10.0.0.1 | 3 | 3723000000000 | \
         2020-01-02T03:04:05.678Z | 50554d6e-29bb-11e5-b345-feff819cdc9f | 4 | 00112233-4455-6677-8899-aabbccddeeff | \
         123456789012345678901234 | [1, 2] | [x, y] | {k: 7} | {0: 1, 1: z} | [0.5, 1.5] | {x: 1, y: q}"
    );
    // What was read can be written.
    space.run(&format!("CREATE TABLE KS.t2 ({COLUMNS})")).await;
    space.write("t2", &[], &read).await.unwrap();
    let copy = space.sql(&[("t2", &[])], "SELECT * FROM t2").await;
    assert_eq!(copy, read);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_missing_is_named() {
    let Some(space) = Space::new("missing").await else { return };
    let rows = users(&[None], &[None]);
    let error = space.write("users", &[], std::slice::from_ref(&rows)).await.unwrap_err();
    assert_eq!((error.kind, error.class.as_str()), (ErrorKind::NotFound, "TABLE_OR_VIEW_NOT_FOUND"));
    assert!(error.message.contains("CREATE TABLE"), "{error}");
    let error = Cassandra.table(&space.options("users", &[]), None).await.unwrap_err();
    assert_eq!(error.class, "TABLE_OR_VIEW_NOT_FOUND");
    let error = Cassandra.table(&space.options("users", &[("keyspace", "nowhere")]), None).await.unwrap_err();
    assert!(error.class == "SCHEMA_NOT_FOUND" && error.message.contains("nowhere"), "{error}");
    space.run("CREATE TABLE KS.users (uid uuid PRIMARY KEY, name text)").await;
    let error = space.write("users", &[], std::slice::from_ref(&rows)).await.unwrap_err();
    assert!(error.message.contains("Column(s) id not found"), "{error}");
    let names = batch(vec![("name", texts(&[None]))]);
    let error = space.write("users", &[], &[names]).await.unwrap_err();
    assert!(error.message.contains("missing primary key columns: [uid]"), "{error}");
    let error = space.write_in("users", &[], &[rows], WriteMode::Overwrite).await.unwrap_err();
    assert!(error.message.contains("confirm.truncate"), "{error}");
    let dc = space.options("users", &[("spark.cassandra.connection.localDC", "nowhere")]);
    let error = Cassandra.table(&dc, None).await.unwrap_err();
    assert!(error.kind == ErrorKind::InvalidRequest && error.message.contains("datacenter1"), "{error}");
}

/// One node, one copy: what asks for more cannot be served.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn consistency_levels_are_asked_for() {
    let Some(space) = Space::new("consistency").await else { return };
    space.run("CREATE TABLE KS.users (id uuid PRIMARY KEY, name text)").await;
    let (first, once) = (id(1), ("spark.cassandra.query.retry.count", "0"));
    let rows = [users(&[Some(&first)], &[Some("a")])];
    let level = "spark.cassandra.output.consistency.level";
    let error = space.write("users", &[(level, "THREE"), once], &rows).await.unwrap_err();
    assert_eq!((error.kind, error.class.as_str()), (ErrorKind::Transient, "CASSANDRA_WRITE_FAILED"));
    assert!(error.message.to_uppercase().contains("CONSISTENCY: THREE"), "{error}");
    assert_eq!(space.count("users").await, 0);
    space.write("users", &[(level, "ONE"), once], &rows).await.unwrap();

    let level = "spark.cassandra.input.consistency.level";
    let read = async |name: &str| {
        let context = SessionContext::new();
        let options = space.options("users", &[(level, name), once]);
        context.register_table("users", Cassandra.table(&options, None).await.unwrap()).unwrap();
        context.sql("SELECT id FROM users").await.unwrap().collect().await
    };
    assert_eq!(read("ONE").await.unwrap().iter().map(RecordBatch::num_rows).sum::<usize>(), 1);
    let error = read("TWO").await.unwrap_err().to_string();
    assert!(error.contains("CASSANDRA_READ_FAILED"), "{error}");
    assert!(error.to_uppercase().contains("CONSISTENCY: TWO"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_that_is_too_large_goes_row_by_row() {
    let Some(space) = Space::new("large").await else { return };
    space.run("CREATE TABLE KS.users (id uuid PRIMARY KEY, name text)").await;
    let rows: Vec<String> = (0..30).map(id).collect();
    let ids: Vec<Option<&str>> = rows.iter().map(|row| Some(row.as_str())).collect();
    let large = "x".repeat(10_000);
    // 300 KB at once, where Cassandra takes 50.
    let options = [("spark.cassandra.output.batch.size.rows", "30")];
    let counts = space.write("users", &options, &[users(&ids, &[Some(large.as_str()); 30])]).await.unwrap();
    assert_eq!((counts.rows, counts.bad_rows), (30, 0));
    assert_eq!(space.count("users").await, 30);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_table_made_anew_does_not_make_bad_records() {
    let Some(space) = Space::new("anew").await else { return };
    space.run("CREATE TABLE KS.users (id uuid PRIMARY KEY, name text)").await;
    let one = id(1);
    let rows = users(&[Some(&one)], &[Some("a")]);
    let context = SinkContext { schema: rows.schema(), mode: WriteMode::Append, query: "q".into(), streaming: true };
    let sink = Cassandra.sink(&space.options("users", &[]), context).await.unwrap();
    let writer = Cassandra.writer(&sink.writer_config()).unwrap();
    let task = WriteTask { batch_id: 3, batch_time_ms: None, partition: 0, attempt: "a".into() };
    let mut task = writer.open(task, rows.schema(), Arc::new(TaskContext::default())).await.unwrap();
    task.write(rows).await.unwrap();
    space.run("DROP TABLE KS.users").await;
    space.run("CREATE TABLE KS.users (id int PRIMARY KEY, name text)").await;
    let error = task.close().await.unwrap_err();
    assert_eq!((error.kind, error.class.as_str()), (ErrorKind::Transient, "CASSANDRA_TABLE_CHANGED"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn overwriting_truncates_first() {
    let Some(space) = Space::new("overwrite").await else { return };
    space.run("CREATE TABLE KS.users (id uuid PRIMARY KEY, name text)").await;
    let (one, two) = (id(1), id(2));
    space.write("users", &[], &[users(&[Some(&one)], &[None])]).await.unwrap();
    let confirmed = [("confirm.truncate", "true")];
    space.write_in("users", &confirmed, &[users(&[Some(&two)], &[None])], WriteMode::Overwrite).await.unwrap();
    assert_eq!(space.count("users").await, 1);
}

/// Prints what a row costs the client.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_rows_of_twelve_columns() {
    let Some(space) = Space::new("throughput").await else { return };
    let names = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k"];
    space.run(&format!("CREATE TABLE KS.users (id uuid PRIMARY KEY, {} text)", names.join(" text, "))).await;
    let rows: u128 = if cfg!(debug_assertions) { 20_000 } else { 200_000 };
    let batches: Vec<RecordBatch> = (0..rows / 5_000)
        .map(|batch_number| {
            let ids = (0..5_000).map(|n| uuid::Uuid::from_u128(u128::MAX / (batch_number * 5_000 + n + 1)).to_string());
            let mut columns: Vec<(&str, ArrayRef)> = vec![("id", Arc::new(StringArray::from_iter_values(ids)))];
            for name in names {
                columns.push((
                    name,
                    Arc::new(StringArray::from_iter_values((0..5_000).map(|n| format!("{name} of row {n:020}")))),
                ));
            }
            batch(columns)
        })
        .collect();
    let (started, cpu) = (std::time::Instant::now(), cpu_seconds());
    let counts = space.write("users", &[], &batches).await.unwrap();
    let (seconds, cpu) = (started.elapsed().as_secs_f64(), cpu_seconds() - cpu);
    println!(
        "{FORMAT}: {rows} rows, {:.0} rows/s, {:.1} us of client CPU a row, limit {}",
        rows as f64 / seconds,
        cpu * 1e6 / rows as f64,
        space.cluster.limiter.limit()
    );
    assert_eq!(counts.rows, rows as u64);
    assert_eq!(space.count("users").await, rows as i64);
}

/// User and system time of this process.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |at: usize| fields.get(at).and_then(|field| field.parse::<f64>().ok()).unwrap_or_default();
    (ticks(11) + ticks(12)) / 100.0
}
