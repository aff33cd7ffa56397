//! Against a real PostgreSQL at `POSTGRES_ADDRESS` (`host:port`, user and database postgres); skipped where there is none.

use super::{Postgres, connect, failed};
use crate::connectors::{Connector, Options, SinkContext, WriteCounts, WriteMode, WriteTask};
use arrow::array::{ArrayRef, AsArray, Float64Array, Int32Array, Int64Array, ListArray, RecordBatch, StringArray};
use arrow::datatypes::{Int32Type, Int64Type};
use arrow::util::pretty::pretty_format_batches;
use datafusion::execution::TaskContext;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::prelude::{SessionConfig, SessionContext};
use futures::TryStreamExt;
use headwater_proto::error::{ErrorKind, Result};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio_postgres::Client;

/// A schema of its own, dropped by the next run of the same test.
struct Space {
    url: String,
    schema: String,
    client: Client,
}

impl Space {
    async fn new(test: &str) -> Option<Self> {
        let Ok(address) = std::env::var("POSTGRES_ADDRESS") else {
            let required = std::env::var("HEADWATER_REQUIRE_SERVICES").is_ok_and(|value| value == "1");
            assert!(!required, "HEADWATER_REQUIRE_SERVICES=1, and POSTGRES_ADDRESS is not set");
            println!("skipped: postgres {test}: POSTGRES_ADDRESS is not set");
            return None;
        };
        // Each test is a client of its own name, so that another can find and kill its sessions.
        let url = format!("postgresql://postgres@{address}/postgres?application_name=headwater_{test}");
        let client = connect(&Options::new([("url", url.as_str())])).await.unwrap();
        let schema = format!("headwater_{test}");
        let space = Self { url, schema, client };
        space.run("DROP SCHEMA IF EXISTS S CASCADE; CREATE SCHEMA S").await;
        Some(space)
    }

    fn named(&self, sql: &str) -> String {
        sql.replace("SCHEMA S", &format!("SCHEMA {}", self.schema))
            .replace("EXISTS S ", &format!("EXISTS {} ", self.schema))
            .replace("S.", &format!("{}.", self.schema))
    }

    /// Runs SQL; `S.` is the schema.
    async fn run(&self, sql: &str) {
        self.client.batch_execute(&self.named(sql)).await.unwrap_or_else(|e| panic!("{sql}: {}", failed("run", &e)));
    }

    /// The only value of a query.
    async fn value(&self, sql: &str) -> i64 {
        self.client.query_one(&self.named(sql), &[]).await.unwrap().get(0)
    }

    async fn text(&self, sql: &str) -> Option<String> {
        self.client.query_one(&self.named(sql), &[]).await.unwrap().get(0)
    }

    fn options(&self, table: &str, pairs: &[(&str, &str)]) -> Options {
        let mut options = Options::new([("url", self.url.clone())]);
        if !pairs.iter().any(|(key, _)| *key == "query") {
            options.set("dbtable", self.named(table));
        }
        pairs.iter().for_each(|(key, value)| options.set(*key, self.named(value)));
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
        let schema = batches[0].schema();
        let context = SinkContext { schema: Arc::clone(&schema), mode, query: "q".into(), streaming: false };
        let sink = Postgres.sink(&self.options(table, pairs), context).await?;
        sink.prepare().await?;
        sink.prepare().await?;
        let writer = Postgres.writer(&sink.writer_config())?;
        let task = WriteTask { batch_id: 3, batch_time_ms: None, partition: 0, attempt: "a".into() };
        let mut task = writer.open(task, schema, Arc::new(TaskContext::default())).await?;
        for batch in batches {
            task.write(batch.clone()).await?;
        }
        Ok(task.close().await?.0)
    }

    async fn context(&self, tables: &[(&str, &str, &[(&str, &str)])]) -> SessionContext {
        let context =
            SessionContext::new_with_config(SessionConfig::new().with_target_partitions(4).with_batch_size(100));
        for (name, table, pairs) in tables {
            let provider = Postgres.table(&self.options(table, pairs), None).await.unwrap();
            context.register_table(*name, provider).unwrap();
        }
        context
    }

    /// Runs SQL over the table, as `t`.
    async fn sql(&self, table: &str, pairs: &[(&str, &str)], sql: &str) -> Vec<RecordBatch> {
        let context = self.context(&[("t", table, pairs)]).await;
        context.sql(sql).await.unwrap().collect().await.unwrap()
    }

    async fn shown(&self, table: &str, pairs: &[(&str, &str)], sql: &str) -> String {
        pretty_format_batches(&self.sql(table, pairs, sql).await).unwrap().to_string()
    }
}

fn batch(columns: Vec<(&str, ArrayRef)>) -> RecordBatch {
    RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, array)| (name, array, true))).unwrap()
}

fn count(batches: &[RecordBatch]) -> i64 {
    batches[0].column(0).as_primitive::<Int64Type>().value(0)
}

const ALL_TYPES: &str = "CREATE TYPE S.mood AS ENUM ('sad', 'ok', 'happy'); \
    CREATE DOMAIN S.positive AS int CHECK (VALUE > 0); \
    CREATE TABLE S.every (id int PRIMARY KEY, b bool, i2 smallint, i8 bigint, f4 real, f8 double precision, \
        n numeric(10, 2), wide numeric, t text, v varchar(10), c char(5), by bytea, d date, ts timestamp, tz timestamptz, \
        u uuid, j json, jb jsonb, ip inet, m S.mood, p S.positive, iv interval, tt time, ai int[], at text[], au uuid[], o oid); \
    INSERT INTO S.every VALUES \
      (1, true, -7, 9000000000, 1.5, -2.25, 12345.67, 0.000000000000000001, 'zoë ''q'' \\ x', 'var', 'ch', '\\x00ff'::bytea, \
       '1969-07-20', '2020-02-29 12:34:56.789012', '2020-02-29 12:34:56+02', '9749f3dc-5dda-47cc-bddb-5e14a58d354f', \
       '{\"a\": 1}', '{\"b\": [1, 2]}', '10.0.0.1/24', 'ok', 5, '1 day 02:03:04', '12:34:56.5', '{1,NULL,3}', \
       '{\"a,b\",NULL}', '{9749f3dc-5dda-47cc-bddb-5e14a58d354f}', 4000000000), \
      (2, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, \
       NULL, NULL, NULL, NULL, NULL, NULL, NULL), \
      (3, false, 32767, -1, 'NaN', 'Infinity', -0.01, -12345678901234567890.5, '', '', '', '', 'infinity', '-infinity', \
       'infinity', '00000000-0000-0000-0000-000000000000', 'null', '{}', '::1', 'sad', 1, '-1 month', '00:00', '{}', '{}', '{}', 0)";

#[tokio::test]
async fn every_type_is_read() {
    let Some(space) = Space::new("types").await else { return };
    space.run(ALL_TYPES).await;
    let shown = space.shown("S.every", &[], "SELECT * FROM t ORDER BY id").await;
    let row = |id: usize| -> Vec<&str> {
        shown.lines().nth(id + 2).unwrap().trim_matches('|').split('|').map(str::trim).collect()
    };
    assert_eq!(
        row(1),
        [
            "1",
            "true",
            "-7",
            "9000000000",
            "1.5",
            "-2.25",
            "12345.67",
            "0.000000000000000001",
            "zoë 'q' \\ x",
            "var",
            "ch",
            "00ff",
            "1969-07-20",
            "2020-02-29T12:34:56.789012Z",
            "2020-02-29T10:34:56Z",
            "9749f3dc-5dda-47cc-bddb-5e14a58d354f",
            "{\"a\": 1}",
            "{\"b\": [1, 2]}",
            "10.0.0.1/24",
            "ok",
            "5",
            "1 day 02:03:04",
            "1970-01-01T12:34:56.500Z",
            "[1, , 3]",
            "[a,b, ]",
            "[9749f3dc-5dda-47cc-bddb-5e14a58d354f]",
            "4000000000",
        ]
    );
    assert!(row(2)[1..].iter().all(|value| value.is_empty()), "{:?}", row(2));
    assert_eq!(
        row(3)[4..16],
        [
            "NaN",
            "inf",
            "-0.01",
            "-12345678901234567890.500000000000000000",
            "",
            "",
            "",
            "",
            "9999-12-31",
            "0001-01-01T00:00:00Z",
            "9999-12-31T23:59:59.999999Z",
            "00000000-0000-0000-0000-000000000000",
        ]
    );
    // As other types, and without a zone.
    let pairs =
        [("customSchema", "n STRING, i8 DECIMAL(38,0), d STRING, au ARRAY<STRING>"), ("preferTimestampNTZ", "true")];
    let found = space.shown("S.every", &pairs, "SELECT n, i8, d, ts, au FROM t WHERE id = 1").await;
    assert!(found.contains("| 12345.67 | 9000000000 | 1969-07-20 | 2020-02-29T12:34:56.789012 | "), "{found}");
    let error = Postgres.table(&space.options("S.every", &[("customSchema", "zz INT")]), None).await.unwrap_err();
    assert!(error.message.contains("column zz not found"), "{error}");
}

#[tokio::test]
async fn every_type_is_written_as_it_was_read() {
    let Some(space) = Space::new("round").await else { return };
    space.run(ALL_TYPES).await;
    // What Arrow has no value for: infinities are read as years, a time as an instant.
    space.run("ALTER TABLE S.every DROP COLUMN tt; DELETE FROM S.every WHERE id = 3; INSERT INTO S.every (id, f4, n) VALUES (4, 'NaN', 99999999.99)").await;
    space.run("CREATE TABLE S.copy (LIKE S.every INCLUDING ALL); CREATE TABLE S.added (LIKE S.every)").await;
    let rows = space.sql("S.every", &[], "SELECT * FROM t").await;
    for (table, times) in [("S.copy", 2), ("S.added", 1)] {
        for _ in 0..times {
            let counts = space.write(table, &[("headwater.badRecords", "fail")], &rows).await.unwrap();
            assert_eq!((counts.rows, counts.bad_rows), (3, 0));
        }
        let differs = format!(
            "SELECT count(*) FROM (SELECT one::text FROM S.every one EXCEPT ALL SELECT two::text FROM {table} two) AS d"
        );
        assert_eq!((space.value(&differs).await, space.value(&format!("SELECT count(*) FROM {table}")).await), (0, 3));
    }
}

#[tokio::test]
async fn texts_become_what_the_column_is() {
    let Some(space) = Space::new("convert").await else { return };
    space
        .run("CREATE TABLE S.t (id uuid PRIMARY KEY, at timestamptz, price numeric(8, 3), j jsonb, ok bool, n int, ip inet, day date)")
        .await;
    let text = |values: &[Option<&str>]| Arc::new(StringArray::from(values.to_vec())) as ArrayRef;
    let id = "9749f3dc-5dda-47cc-bddb-5e14a58d354f";
    let rows = batch(vec![
        ("id", text(&[Some(&id.to_uppercase()), Some("no uuid"), Some("00000000-0000-0000-0000-000000000001")])),
        ("at", text(&[Some("1948-04-03T15:02:01.210Z"), None, Some("yesterday-ish")])),
        ("price", text(&[Some("1.5e2"), None, None])),
        ("j", text(&[Some("{\"a\": [1]}"), None, None])),
        ("ok", text(&[Some("true"), None, None])),
        ("n", text(&[Some("-5"), None, None])),
        ("ip", text(&[Some("10.0.0.1"), None, None])),
        ("day", text(&[Some("2020-02-29"), None, None])),
    ]);
    let counts = space.write("S.t", &[], &[rows]).await.unwrap();
    assert_eq!((counts.rows, counts.bad_rows), (1, 2));
    assert_eq!(
        space.text("SELECT t::text FROM S.t").await.unwrap(),
        format!("({id},\"1948-04-03 15:02:01.21+00\",150.000,\"{{\"\"a\"\": [1]}}\",t,-5,10.0.0.1,2020-02-29)")
    );
}

#[tokio::test]
async fn a_task_that_runs_twice_changes_nothing() {
    let Some(space) = Space::new("upsert").await else { return };
    space.run("CREATE TABLE S.t (id int PRIMARY KEY, v text, kept text DEFAULT 'yes', u int UNIQUE)").await;
    let rows = |ids: Vec<i32>, values: Vec<&str>| {
        batch(vec![
            ("id", Arc::new(Int32Array::from(ids)) as ArrayRef),
            ("v", Arc::new(StringArray::from(values)) as ArrayRef),
        ])
    };
    // Of rows with one key the last wins.
    let first = rows(vec![1, 2, 1, 3], vec!["a", "b", "c", "d"]);
    for _ in 0..2 {
        let counts = space.write("S.t", &[], std::slice::from_ref(&first)).await.unwrap();
        assert_eq!((counts.rows, counts.bad_rows), (4, 0));
    }
    let all = "SELECT string_agg(id || v || kept, ' ' ORDER BY id) FROM S.t";
    assert_eq!(space.text(all).await.unwrap(), "1cyes 2byes 3dyes");
    // Columns that are not written stay.
    space.run("UPDATE S.t SET kept = 'no'").await;
    space.write("S.t", &[], &[rows(vec![2], vec!["z"])]).await.unwrap();
    assert_eq!(space.text(all).await.unwrap(), "1cno 2zno 3dno");
    // The first stays.
    space.write("S.t", &[("onConflict", "ignore")], &[rows(vec![2, 4, 4], vec!["y", "e", "f"])]).await.unwrap();
    assert_eq!(space.text(all).await.unwrap(), "1cno 2zno 3dno 4eyes");
    // A second one is an error, and nothing of the task is there.
    let error = space.write("S.t", &[("onConflict", "error")], &[rows(vec![9, 2], vec!["y", "e"])]).await.unwrap_err();
    assert!(error.message.contains("23505") && error.message.contains("t_pkey"), "{error}");
    assert_eq!(space.value("SELECT count(*) FROM S.t").await, 4);
    // By another key.
    let by = batch(vec![
        ("u", Arc::new(Int32Array::from(vec![Some(7), Some(7), None])) as ArrayRef),
        ("id", Arc::new(Int32Array::from(vec![10, 11, 12])) as ArrayRef),
    ]);
    let counts = space.write("S.t", &[("upsertKeys", "u")], &[by]).await.unwrap();
    assert_eq!((counts.rows, counts.bad_rows), (2, 1));
    assert_eq!(space.value("SELECT id::int8 FROM S.t WHERE u = 7").await, 11);
    let error = space.write("S.t", &[("upsertKeys", "v")], &[rows(vec![1], vec!["a"])]).await.unwrap_err();
    assert!(error.message.contains("CREATE UNIQUE INDEX"), "{error}");
}

#[tokio::test]
async fn bad_records_go_where_the_policy_says() {
    let Some(space) = Space::new("bad").await else { return };
    space.run("CREATE TABLE S.t (id int PRIMARY KEY, v varchar(3) NOT NULL, n int CHECK (n <> 500))").await;
    let ids: Vec<i32> = (0..1000).collect();
    // 7: null, 8: too long (both found here), 500: refused by the server.
    let values: Vec<Option<&str>> = ids
        .iter()
        .map(|id| match id {
            7 => None,
            8 => Some("long"),
            _ => Some("ok"),
        })
        .collect();
    let rows = batch(vec![
        ("id", Arc::new(Int32Array::from(ids.clone())) as ArrayRef),
        ("v", Arc::new(StringArray::from(values)) as ArrayRef),
        ("n", Arc::new(Int32Array::from(ids)) as ArrayRef),
    ]);
    let counts = space.write("S.t", &[], std::slice::from_ref(&rows)).await.unwrap();
    assert_eq!((counts.rows, counts.bad_rows), (997, 3));
    assert_eq!(space.value("SELECT count(*) FROM S.t").await, 997);
    let letters = [("headwater.deadLetter.table", "S.letters")];
    for _ in 0..2 {
        assert_eq!(space.write("S.t", &letters, std::slice::from_ref(&rows)).await.unwrap().bad_rows, 3);
    }
    let reasons = space.text("SELECT string_agg(record || ' ' || reason, '; ' ORDER BY record) FROM S.letters").await;
    let reasons = reasons.unwrap();
    assert_eq!(reasons.matches("\"id\":").count(), 3, "{reasons}");
    assert!(reasons.contains("\"v\":null") && reasons.contains("more than 3 characters"), "{reasons}");
    assert!(reasons.contains("t_n_check"), "{reasons}");
    // What cannot be told apart is kept as often as it came.
    let alike = rows.slice(7, 1);
    let letters = [("headwater.deadLetter.table", "S.alike")];
    for _ in 0..2 {
        space.write("S.t", &letters, &[alike.clone(), alike.clone(), alike.clone()]).await.unwrap();
        assert_eq!(space.value("SELECT count(*) FROM S.alike").await, 3);
    }
    // What the rows have beside the table, letters alone have; also where the table is made for them.
    let rows_beside = batch(vec![
        ("id", Arc::new(Int32Array::from(vec![Some(1), None])) as ArrayRef),
        ("text", Arc::new(StringArray::from(vec![None, Some("{oops")])) as ArrayRef),
    ]);
    let letters = [
        ("headwater.deadLetter.table", "S.texts"),
        ("headwater.deadLetter.columns", "text"),
        ("headwater.createTable", "true"),
        ("headwater.primaryKey", "id"),
    ];
    let counts = space.write("S.beside", &letters, std::slice::from_ref(&rows_beside)).await.unwrap();
    assert_eq!((counts.rows, counts.bad_rows), (1, 1));
    let record = space.text("SELECT record FROM S.texts").await.unwrap();
    assert_eq!(record, r#"{"id":null,"text":"{oops"}"#);
    let columns = "SELECT count(*) FROM pg_attribute WHERE attrelid = 'S.beside'::regclass AND attnum > 0";
    assert_eq!(space.value(columns).await, 1);
    // The same where rows are added in one transaction.
    space.run("CREATE TABLE S.a (id int, v varchar(3), n int CHECK (n <> 500))").await;
    let counts = space.write("S.a", &[], std::slice::from_ref(&rows)).await.unwrap();
    assert_eq!((counts.rows, counts.bad_rows), (998, 2));
    assert_eq!(space.value("SELECT count(*) FROM S.a").await, 998);
    for table in ["S.t", "S.a"] {
        let error =
            space.write(table, &[("headwater.badRecords", "fail")], std::slice::from_ref(&rows)).await.unwrap_err();
        assert_eq!((error.kind, error.class.as_str()), (ErrorKind::InvalidRequest, "POSTGRES_BAD_RECORD"));
    }
    assert_eq!(space.value("SELECT count(*) FROM S.a").await, 998);
}

#[tokio::test]
async fn tables_are_made_and_made_anew() {
    let Some(space) = Space::new("create").await else { return };
    let rows = batch(vec![
        ("id", Arc::new(Int32Array::from(vec![1, 2])) as ArrayRef),
        ("Name", Arc::new(StringArray::from(vec!["a", "b"])) as ArrayRef),
        (
            "tags",
            Arc::new(ListArray::from_iter_primitive::<Int32Type, _, _>(vec![Some(vec![Some(1)]), None])) as ArrayRef,
        ),
    ]);
    let error = space.write("S.made", &[], std::slice::from_ref(&rows)).await.unwrap_err();
    assert_eq!((error.kind, error.class.as_str()), (ErrorKind::NotFound, "TABLE_OR_VIEW_NOT_FOUND"));
    assert!(error.message.contains("headwater.createTable") && error.message.contains("\"Name\" text"), "{error}");
    let pairs =
        [("headwater.createTable", "true"), ("headwater.primaryKey", "id"), ("createTableColumnTypes", "id bigint")];
    for _ in 0..2 {
        space.write("S.made", &pairs, std::slice::from_ref(&rows)).await.unwrap();
    }
    let shape = "SELECT string_agg(attname || ' ' || format_type(atttypid, atttypmod), ', ' ORDER BY attnum) FROM \
                 pg_attribute WHERE attrelid = 'S.made'::regclass AND attnum > 0 AND NOT attisdropped";
    assert_eq!(space.text(shape).await.unwrap(), "id bigint, Name text, tags integer[]");
    assert_eq!(space.value("SELECT count(*) FROM S.made").await, 2);
    // Emptied, with its shape; then made anew, as Spark does by default.
    let one = rows.slice(0, 1);
    let truncate: Vec<_> = pairs.iter().copied().chain([("truncate", "true")]).collect();
    space.write_in("S.made", &truncate, std::slice::from_ref(&one), WriteMode::Overwrite).await.unwrap();
    assert_eq!(space.value("SELECT count(*) FROM S.made").await, 1);
    assert_eq!(space.text(shape).await.unwrap(), "id bigint, Name text, tags integer[]");
    space.write_in("S.made", &[], &[rows], WriteMode::Overwrite).await.unwrap();
    assert_eq!(space.text(shape).await.unwrap(), "id integer, Name text, tags integer[]");
    assert_eq!(space.value("SELECT count(*) FROM S.made").await, 2);
    let error = space.write_in("S.made", &[], &[one], WriteMode::Update).await.unwrap_err();
    assert_eq!(error.class, "POSTGRES_MISSING_KEY");
}

#[tokio::test]
async fn filters_and_limits_go_down_and_mean_the_same() {
    let Some(space) = Space::new("push").await else { return };
    space
        .run(
            "CREATE TABLE S.t (id int PRIMARY KEY, t text, u uuid, d date, tz timestamptz, f float8, n numeric(8,2), b bool, \
             c char(4), m text); \
             INSERT INTO S.t SELECT i, CASE i % 7 WHEN 0 THEN NULL WHEN 1 THEN 'Zoë' ELSE 'v' || i % 10 END, \
               md5(i::text)::uuid, date '2020-01-01' + i % 100, timestamptz '2020-01-01 00:00+00' + i * interval '1 hour', \
               CASE i % 9 WHEN 0 THEN 'NaN' WHEN 1 THEN '-0' ELSE i / 3.0 END, i / 8.0, i % 3 = 0, 'c' || i % 5, \
               CASE i % 2 WHEN 0 THEN 'a' ELSE 'B' END \
             FROM generate_series(1, 5000) AS i; ANALYZE S.t",
        )
        .await;
    let uuid = space.text("SELECT u::text FROM S.t WHERE id = 77").await.unwrap();
    let by_uuid = format!("u = '{uuid}'");
    let filters = [
        "id = 17",
        "id IN (1, 2, 3, 99999)",
        "id NOT IN (1, 2)",
        "id BETWEEN 10 AND 20 OR id > 4990",
        "t = 'Zoë'",
        "t <> 'v1'",
        "t IS NULL",
        "t > 'v5' AND id < 100",
        "t LIKE 'v1%'",
        "m < 'a'",
        by_uuid.as_str(),
        "d >= DATE '2020-03-01'",
        "tz < TIMESTAMP '2020-01-03T00:00:00Z'",
        "f > 100.5",
        "f < 1.5",
        "f = 0.0",
        "n = 12.50",
        "n < 3.13",
        "b",
        "NOT b AND id < 50",
        "c = 'c1'",
        "c = 'c1  '",
        "id % 2 = 0 AND id < 100",
        "length(t) = 3 OR id = 5",
    ];
    for filter in filters {
        let sql = format!("SELECT id FROM t WHERE {filter} ORDER BY id");
        let pushed = space.shown("S.t", &[], &sql).await;
        let kept = space.shown("S.t", &[("pushDownPredicate", "false")], &sql).await;
        assert_eq!(pushed, kept, "{filter}");
    }
    // What the server is asked: by key through the index, one column, so many rows.
    let asked = async |sql: &str| -> String {
        let context = space.context(&[("t", "S.t", &[("numPartitions", "1")])]).await;
        let plan = context.sql(sql).await.unwrap().create_physical_plan().await.unwrap();
        let mut queries = vec![];
        collect_queries(&plan, &mut queries);
        assert_eq!(queries.len(), 1, "{queries:?}");
        queries.remove(0)
    };
    let query = asked("SELECT t FROM t WHERE id = 17").await;
    assert!(query.contains("WHERE (\"id\" = '17'::int8)"), "{query}");
    let plan = space.client.query(&format!("EXPLAIN {query}"), &[]).await.unwrap();
    let plan: Vec<String> = plan.iter().map(|row| row.get(0)).collect();
    assert!(plan[0].contains("Index Scan using t_pkey"), "{plan:?}");
    assert!(!asked("SELECT t FROM t").await.contains("\"f\""));
    assert!(asked("SELECT t FROM t WHERE id > 5 LIMIT 3").await.ends_with("LIMIT 3"));
    // A filter that is checked again forbids the limit.
    assert!(!asked("SELECT t FROM t WHERE c = 'c1' LIMIT 3").await.contains("LIMIT"));
    assert_eq!(count(&space.sql("S.t", &[], "SELECT count(*) FROM t").await), 5000);
    let declared = "SELECT id, t FROM S.t WHERE id < 4 UNION ALL SELECT 9, 'x'";
    let found = space.shown("", &[("query", declared)], "SELECT count(*), max(t) FROM t WHERE id > 1").await;
    assert!(found.contains("| 3 ") && found.contains("| x "), "{found}");
}

/// The queries of the scans in a plan.
fn collect_queries(plan: &Arc<dyn ExecutionPlan>, queries: &mut Vec<String>) {
    if let Some(scan) = plan.downcast_ref::<crate::operators::source_scan::SourceScanExec>() {
        let config: super::scan::ReaderConfig = serde_json::from_str(scan.config()).unwrap();
        let columns: Vec<usize> = scan
            .schema()
            .fields()
            .iter()
            .map(|field| config.names.iter().position(|name| name == field.name()).unwrap())
            .collect();
        queries.push(config.query(&columns, &super::scan::Descriptor { part: None }));
    }
    plan.children().into_iter().for_each(|child| collect_queries(child, queries));
}

#[tokio::test]
async fn parts_are_all_rows_once() {
    let Some(space) = Space::new("parts").await else { return };
    space.run("CREATE TABLE S.t (id int, d date); INSERT INTO S.t SELECT i, date '2020-01-01' + i % 50 FROM generate_series(1, 20000) i; INSERT INTO S.t VALUES (NULL, NULL); ANALYZE S.t").await;
    let check = async |pairs: &[(&str, &str)], expect: usize| {
        let context = space.context(&[("t", "S.t", pairs)]).await;
        let plan = context.sql("SELECT id FROM t").await.unwrap().create_physical_plan().await.unwrap();
        let partitions = datafusion::physical_plan::execute_stream_partitioned(plan, context.task_ctx()).unwrap();
        let mut rows = vec![];
        for partition in partitions {
            let batches: Vec<RecordBatch> = partition.try_collect().await.unwrap();
            rows.push(batches.iter().map(RecordBatch::num_rows).sum::<usize>());
        }
        assert_eq!((rows.len(), rows.iter().sum::<usize>()), (expect, 20_001), "{rows:?}");
        assert!(rows.iter().all(|rows| *rows > 20_001 / expect / 2), "{rows:?}");
    };
    check(&[], 1).await;
    check(&[("numPartitions", "4")], 4).await;
    let by = |column, lower, upper| {
        [("partitionColumn", column), ("lowerBound", lower), ("upperBound", upper), ("numPartitions", "3")]
    };
    check(&by("id", "0", "20000"), 3).await;
    check(&by("d", "2020-01-01", "2020-02-20"), 3).await;
}

/// Ends the sessions of this test whose statement is like that; returns how many there were.
async fn kill(space: &Space, statement: &str) -> i64 {
    let sql = format!(
        "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name = '{}' \
         AND pid <> pg_backend_pid() AND state <> 'idle' AND query LIKE '{statement}'",
        space.schema
    );
    space.value(&sql).await
}

/// Waits for a session to kill.
async fn kill_one(space: &Space, statement: &str) {
    let began = Instant::now();
    while kill(space, statement).await == 0 {
        assert!(began.elapsed() < Duration::from_secs(20), "nobody runs {statement}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// Behind the pattern: met in the trigger's sleep, which no other statement is in.
const ASLEEP: &str = "%' AND wait_event = 'PgSleep' AND query LIKE '%";

fn numbered(rows: std::ops::Range<i32>) -> RecordBatch {
    batch(vec![
        ("id", Arc::new(Int32Array::from_iter_values(rows.clone())) as ArrayRef),
        ("v", Arc::new(StringArray::from_iter_values(rows.map(|at| format!("value {at}")))) as ArrayRef),
    ])
}

/// Tables of which one insert, by its number among all, sleeps in a trigger, so that it can be met.
const SLOW: &str = "CREATE SEQUENCE S.calls; \
    CREATE FUNCTION S.slow() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
      IF nextval('S.calls') = TG_ARGV[0]::int THEN PERFORM pg_sleep(30); END IF; RETURN NULL; END $$; \
    CREATE TABLE S.t (id int PRIMARY KEY, v text); \
    CREATE TRIGGER slow BEFORE INSERT ON S.t FOR EACH STATEMENT EXECUTE FUNCTION S.slow(2); \
    CREATE TABLE S.a (id int, v text); \
    CREATE TRIGGER slow BEFORE INSERT ON S.a FOR EACH STATEMENT EXECUTE FUNCTION S.slow(WHICH)";

#[tokio::test]
async fn a_connection_that_is_lost_while_writing_costs_nothing() {
    let Some(space) = Space::new("kill").await else { return };
    space.run(&SLOW.replace("WHICH", "4")).await;
    // Two windows; the second insert is met and its session killed.
    let batches = [numbered(0..20_000), numbered(20_000..50_000)];
    let (counts, ()) = tokio::join!(space.write("S.t", &[], &batches), kill_one(&space, ASLEEP));
    let counts = counts.unwrap();
    assert_eq!((counts.rows, counts.bad_rows, counts.retries), (50_000, 0, 1));
    let shape = space.text("SELECT count(*) || ' ' || count(DISTINCT id) || ' ' || max(v) FROM S.t").await.unwrap();
    assert_eq!(shape, "50000 50000 value 9999");
    // Added rows: the first window is repeated (call 4 is its first), and nothing is there twice.
    let (counts, ()) = tokio::join!(space.write("S.a", &[], &batches), kill_one(&space, ASLEEP));
    assert_eq!(counts.unwrap().retries, 1);
    assert_eq!(space.value("SELECT count(*) FROM S.a").await, 50_000);
    // In the second window the task fails, to be run again, and leaves nothing.
    space.run("TRUNCATE S.a; SELECT setval('S.calls', 2)").await;
    let (error, ()) = tokio::join!(space.write("S.a", &[], &batches), kill_one(&space, ASLEEP));
    let error = error.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Transient, "{error}");
    assert_eq!(space.value("SELECT count(*) FROM S.a").await, 0);
}

#[tokio::test]
async fn a_connection_that_is_lost_while_reading_fails_the_task_to_be_run_again() {
    let Some(space) = Space::new("killread").await else { return };
    space.run("CREATE TABLE S.t AS SELECT i AS id, repeat('x', 1000) AS v FROM generate_series(1, 100000) i").await;
    let context = space.context(&[("t", "S.t", &[])]).await;
    let mut rows = context.sql("SELECT * FROM t").await.unwrap().execute_stream().await.unwrap();
    assert!(rows.try_next().await.unwrap().is_some());
    // The reader waits for us, and so does the server.
    kill_one(&space, "COPY%").await;
    let error = loop {
        match rows.try_next().await {
            Ok(Some(_)) => {}
            Ok(None) => panic!("the end came, and not all rows"),
            Err(error) => break error,
        }
    };
    let error = headwater_proto::error::Error::in_text(&format!("{error:?}")).unwrap();
    assert_eq!(error.kind, ErrorKind::Transient, "{error}");
    // A reader that is dropped ends its session on the server.
    let mut rows = context.sql("SELECT * FROM t").await.unwrap().execute_stream().await.unwrap();
    assert!(rows.try_next().await.unwrap().is_some());
    drop(rows);
    let began = Instant::now();
    let busy = format!(
        "SELECT count(*) FROM pg_stat_activity WHERE application_name = '{}' AND state = 'active' AND query LIKE 'COPY%'",
        space.schema
    );
    while space.value(&busy).await > 0 {
        assert!(began.elapsed() < Duration::from_secs(20), "the server still sends");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn a_session_statement_runs_once_for_each_part() {
    let Some(space) = Space::new("init").await else { return };
    space.run("CREATE TABLE S.t AS SELECT i AS id FROM generate_series(1, 20000) i; CREATE TABLE S.log (n int); ANALYZE S.t").await;
    let pairs = [("sessionInitStatement", "INSERT INTO S.log VALUES (1)"), ("numPartitions", "3")];
    assert_eq!(count(&space.sql("S.t", &pairs, "SELECT count(*) FROM t").await), 20_000);
    assert_eq!(space.value("SELECT count(*) FROM S.log").await, 3);
    let pairs = [("sessionInitStatement", "DO $$ BEGIN RAISE EXCEPTION 'slice is taken'; END $$")];
    let context = space.context(&[("t", "S.t", &pairs)]).await;
    let error = context.sql("SELECT * FROM t").await.unwrap().collect().await.unwrap_err();
    let error = headwater_proto::error::Error::in_text(&format!("{error:?}")).unwrap();
    assert!(error.kind == ErrorKind::InvalidRequest && error.message.contains("slice is taken"), "{error}");
}

#[tokio::test]
async fn what_a_session_statement_sets_is_its_tables_alone() {
    let Some(space) = Space::new("session").await else { return };
    space.run("CREATE TABLE S.t (id int, v text, tenant text DEFAULT current_setting('headwater.tenant', true))").await;
    let set = ("sessionInitStatement", "SET headwater.tenant = 'ours'");
    let query = ("query", "SELECT coalesce(current_setting('headwater.tenant', true), 'nobody') AS tenant");
    let found = space.shown("", &[query, set], "SELECT tenant FROM t").await;
    assert!(found.contains("| ours "), "{found}");
    let found = space.shown("", &[query], "SELECT tenant FROM t").await;
    assert!(found.contains("| nobody "), "{found}");
    space.write("S.t", &[set], &[numbered(0..1)]).await.unwrap();
    space.write("S.t", &[], &[numbered(1..2)]).await.unwrap();
    let tenants = "SELECT string_agg(coalesce(tenant, 'nobody'), ' ' ORDER BY id) FROM S.t";
    assert_eq!(space.text(tenants).await.as_deref(), Some("ours nobody"));
}

#[tokio::test]
async fn what_is_wrong_is_named() {
    let Some(space) = Space::new("wrong").await else { return };
    let check = async |table: &str, pairs: &[(&str, &str)], class: &str, expect: &str| {
        let error = Postgres.table(&space.options(table, pairs), None).await.unwrap_err();
        assert_eq!(error.class, class, "{error}");
        assert!(error.message.contains(expect) && !error.message.contains("canary"), "{error}");
    };
    check("S.nothing", &[], "TABLE_OR_VIEW_NOT_FOUND", "headwater_wrong.nothing does not exist").await;
    check("", &[("query", "SELECT zz FROM pg_class")], "UNRESOLVED_COLUMN.WITH_SUGGESTION", "zz").await;
    check("", &[("query", "SELEC 1")], "POSTGRES_REQUEST_FAILED", "syntax error").await;
    let login = [("user", "nobody_here"), ("password", "canary")];
    check("S.t", &login, "POSTGRES_AUTHENTICATION_FAILED", "nobody_here").await;
    check("S.t", &[("sslmode", "require")], "POSTGRES_TLS_FAILED", "sslmode").await;
    check(
        "S.t",
        &[("sslmode", "verify-full"), ("sslrootcert", "/no/such/file")],
        "TLS_INVALID_CERTIFICATE",
        "/no/such",
    )
    .await;
    let url = space.url.replace("/postgres?", "/no_such_database?");
    let options = Options::new([("url", url.as_str()), ("dbtable", "t")]);
    assert_eq!(Postgres.table(&options, None).await.unwrap_err().class, "POSTGRES_DATABASE_NOT_FOUND");
    // Values that no decimal holds.
    space.run("CREATE TABLE S.n (n numeric); INSERT INTO S.n VALUES ('NaN')").await;
    let context = space.context(&[("t", "S.n", &[])]).await;
    let error = context.sql("SELECT * FROM t").await.unwrap().collect().await.unwrap_err().to_string();
    assert!(error.contains("column n") && error.contains("customSchema"), "{error}");
    // Nothing prints the password.
    let options = space.options("S.n", &[("password", "canary")]);
    let context =
        SinkContext { schema: numbered(0..1).schema(), mode: WriteMode::Append, query: "q".into(), streaming: true };
    let sink = Postgres.sink(&options, context).await.unwrap();
    let writer = Postgres.writer(&sink.writer_config()).unwrap();
    assert!(!format!("{sink:?} {writer:?} {options:?}").contains("canary"));
}

#[tokio::test]
async fn many_tasks_at_once_meet_without_harm() {
    let Some(space) = Space::new("meet").await else { return };
    space.run("CREATE TABLE S.t (id int PRIMARY KEY, v text)").await;
    let batches: Vec<RecordBatch> = (0..6).map(|_| numbered(0..5_000)).collect();
    let writes = batches.iter().map(|batch| space.write("S.t", &[], std::slice::from_ref(batch)));
    for counts in futures::future::join_all(writes).await {
        assert_eq!(counts.unwrap().rows, 5_000);
    }
    assert_eq!(space.value("SELECT count(*) FROM S.t").await, 5_000);
}

/// `cargo test -- --nocapture measure_` with `HEADWATER_MEASURE=1`: rows a second, and CPU of this process.
#[tokio::test(flavor = "multi_thread")]
async fn measure_writes_and_reads() {
    if std::env::var("HEADWATER_MEASURE").is_err() {
        println!("skipped: postgres measure: HEADWATER_MEASURE is not set");
        return;
    }
    let Some(space) = Space::new("measure").await else { return };
    let cpu = || -> f64 {
        let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
        let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
        (fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap()) / 100.0
    };
    const ROWS: i64 = 200_000;
    let texts: Vec<(&str, usize)> =
        vec![("first_name", 8), ("address", 40), ("email", 24), ("phone", 12), ("picture", 50), ("dob", 24)];
    let rows = |from: i64, until: i64| {
        let ids =
            StringArray::from_iter_values((from..until).map(|at| uuid::Uuid::from_u128(at as u128 * 7919).to_string()));
        let mut columns = vec![("id", Arc::new(ids) as ArrayRef)];
        for (name, length) in &texts {
            let values = (from..until).map(|at| format!("{at:0>width$}", width = *length));
            columns.push((*name, Arc::new(StringArray::from_iter_values(values)) as ArrayRef));
        }
        columns.push(("n", Arc::new(Int64Array::from_iter_values(from..until)) as ArrayRef));
        columns.push(("f", Arc::new(Float64Array::from_iter_values((from..until).map(|at| at as f64))) as ArrayRef));
        batch(columns)
    };
    let batches: Vec<RecordBatch> = (0..ROWS / 5_000).map(|at| rows(at * 5_000, (at + 1) * 5_000)).collect();
    let pairs =
        [("headwater.createTable", "true"), ("headwater.primaryKey", "id"), ("createTableColumnTypes", "id uuid")];
    for what in ["upsert of new rows", "upsert of the same rows"] {
        let (began, used) = (Instant::now(), cpu());
        space.write("S.t", &pairs, &batches).await.unwrap();
        let seconds = began.elapsed().as_secs_f64();
        println!(
            "{what}: {:.0} rows/s, {:.2} CPU-s of the client for {ROWS} rows",
            ROWS as f64 / seconds,
            cpu() - used
        );
    }
    let (began, used) = (Instant::now(), cpu());
    space.write("S.added", &[("headwater.createTable", "true")], &batches).await.unwrap();
    let seconds = began.elapsed().as_secs_f64();
    println!("append: {:.0} rows/s, {:.2} CPU-s of the client", ROWS as f64 / seconds, cpu() - used);
    let reader_options = space.options("S.t", &[]);
    let table = Postgres.table(&reader_options, None).await.unwrap();
    let context = SessionContext::new();
    context.register_table("t", table).unwrap();
    let (began, used) = (Instant::now(), cpu());
    let mut stream = context.sql("SELECT * FROM t").await.unwrap().execute_stream().await.unwrap();
    let mut read = 0;
    while let Some(batch) = stream.try_next().await.unwrap() {
        read += batch.num_rows() as i64;
    }
    let seconds = began.elapsed().as_secs_f64();
    println!("read: {:.0} rows/s, {:.2} CPU-s of the client", read as f64 / seconds, cpu() - used);
    assert_eq!(read, ROWS);
}

#[tokio::test]
async fn a_stream_is_not_read() {
    let reader = Postgres.reader("{}").unwrap_err();
    assert_eq!(reader.kind, ErrorKind::Internal);
    let error = Postgres.source(&Options::default(), None).await.unwrap_err();
    assert!(error.message.contains("postgres does not support streaming read"), "{error}");
}
