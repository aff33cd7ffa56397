//! Statements planned over connectors that are made up: a topic, a keyspace, and a sink that takes anything.

use super::*;
use crate::sql::parser::parse;
use crate::sql::rules::BINARY_TO_STRING;
use arrow::array::{BinaryArray, Int32Array, Int64Array, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, Field, TimeUnit};
use arrow::util::pretty::pretty_format_batches;
use async_trait::async_trait;
use ballista_scheduler::planner::{DefaultDistributedPlanner, DistributedPlanner};
use datafusion::catalog::MemTable;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::execution::TaskContext;
use datafusion::physical_plan::joins::NestedLoopJoinExec;
use datafusion::physical_plan::{ExecutionPlanProperties, collect};
use datafusion_proto::bytes::{
    physical_plan_from_bytes_with_extension_codec, physical_plan_to_bytes_with_extension_codec,
};
use headwater_executor::codec::HeadwaterPhysicalCodec;
use headwater_executor::connectors::{Limit, LimitContext, Offset};
use headwater_executor::operators::source_scan::SourceScanExec;
use object_store::memory::InMemory;
use object_store::path::Path;
use std::sync::Mutex;

const USERS: &str = "id STRING, first_name STRING, age INT, address STRUCT<city: STRING, Zip: STRING>";

/// A connector that is all of them, and remembers what it was told.
#[derive(Debug)]
struct Fake {
    format: &'static str,
    told: Arc<Mutex<Vec<Options>>>,
}

fn topic_schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("key", DataType::Binary, true),
        Field::new("value", DataType::Binary, true),
        Field::new("topic", DataType::Utf8, true),
        Field::new("partition", DataType::Int32, true),
        Field::new("offset", DataType::Int64, true),
        Field::new("timestamp", DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())), true),
        Field::new("timestampType", DataType::Int32, true),
    ]))
}

fn topic_rows() -> RecordBatch {
    let values: Vec<Option<&[u8]>> = vec![
        Some(br#"{"id":"1","first_name":"Ada","age":36,"address":{"city":"London","Zip":"W1"}}"#),
        Some(br#"{"id":"2","first_name":"Bo","age":7,"address":null}"#),
        Some(b"not json"),
        None,
    ];
    let rows = values.len();
    RecordBatch::try_new(
        topic_schema(),
        vec![
            Arc::new(BinaryArray::from(vec![Some(b"\xff k".as_slice()); rows])),
            Arc::new(BinaryArray::from(values)),
            Arc::new(StringArray::from(vec!["users"; rows])),
            Arc::new(Int32Array::from(vec![0; rows])),
            Arc::new(Int64Array::from_iter_values(0..rows as i64)),
            Arc::new(TimestampMicrosecondArray::from(vec![0; rows]).with_timezone("UTC")),
            Arc::new(Int32Array::from(vec![0; rows])),
        ],
    )
    .expect("rows")
}

#[async_trait]
impl Connector for Fake {
    fn format(&self) -> &'static str {
        self.format
    }
    async fn table(&self, options: &Options, schema: Option<SchemaRef>) -> Result<Arc<dyn TableProvider>> {
        self.told.lock().expect("told").push(options.clone());
        let batch = match self.format {
            "kafka" => topic_rows(),
            "cassandra" => RecordBatch::new_empty(Arc::new(Schema::new(vec![
                Field::new("id", DataType::Utf8, false),
                Field::new("city", DataType::Utf8, true),
                Field::new("first_name", DataType::Utf8, true),
                Field::new("age", DataType::Int64, true),
            ]))),
            _ => RecordBatch::new_empty(schema.unwrap_or_else(|| Arc::new(Schema::empty()))),
        };
        let table = MemTable::try_new(batch.schema(), vec![vec![batch]]).expect("table");
        Ok(Arc::new(table))
    }
    async fn source(&self, options: &Options, _: Option<SchemaRef>) -> Result<Arc<dyn Source>> {
        self.told.lock().expect("told").push(options.clone());
        Ok(Arc::new(FakeSource))
    }
    async fn sink(&self, options: &Options, context: SinkContext) -> Result<Arc<dyn Sink>> {
        self.told.lock().expect("told").push(options.clone());
        Ok(Arc::new(FakeSink { context }))
    }
}

#[derive(Debug)]
struct FakeSource;

#[async_trait]
impl Source for FakeSource {
    fn schema(&self) -> SchemaRef {
        topic_schema()
    }
    fn description(&self) -> String {
        "fake".into()
    }
    async fn initial_offset(&self) -> Result<Offset> {
        Ok(Offset("0".into()))
    }
    async fn latest_offset(&self, start: &Offset) -> Result<Offset> {
        Ok(start.clone())
    }
    fn limit(&self, _: &Offset, latest: &Offset, _: LimitContext) -> Result<Limit> {
        Ok(Limit::Until(latest.clone()))
    }
    async fn plan(&self, _: &Offset, _: &Offset) -> Result<Vec<String>> {
        Ok(vec![])
    }
    fn reader_config(&self, query: &str) -> String {
        query.into()
    }
    fn format(&self) -> &'static str {
        "kafka"
    }
}

#[derive(Debug)]
struct FakeSink {
    context: SinkContext,
}

#[async_trait]
impl Sink for FakeSink {
    fn format(&self) -> &'static str {
        "noop"
    }
    fn description(&self) -> String {
        format!("{:?}", self.context)
    }
    async fn prepare(&self) -> Result<()> {
        Ok(())
    }
    fn writer_config(&self) -> String {
        String::new()
    }
}

struct Bench {
    planner: Planner,
    session: Session,
    told: Arc<Mutex<Vec<Options>>>,
}

impl Bench {
    async fn new() -> Self {
        let catalog = Catalog::open(Arc::new(InMemory::new()), &Path::from("s"), "file:///w").await.expect("opens");
        let told = Arc::new(Mutex::new(vec![]));
        let known = Arc::clone(&told);
        let find = move |format: &str| -> Result<Arc<dyn Connector>> {
            let format = match format {
                "kafka" => "kafka",
                "cassandra" | "org.apache.spark.sql.cassandra" => "cassandra",
                "noop" => "noop",
                "parquet" | "json" | "csv" => "parquet",
                other => return Err(Error::invalid("DATA_SOURCE_NOT_FOUND", other)),
            };
            Ok(Arc::new(Fake { format, told: Arc::clone(&known) }))
        };
        let planner = Planner::new(Arc::new(catalog), Arc::new(RuntimeEnv::default())).with_connectors(Arc::new(find));
        let mut bench = Self { planner, session: Session::default(), told };
        bench
            .run(
                "CREATE TABLE users_created USING kafka OPTIONS (subscribe 'users', kafka.sasl.password 'hunter2');
                 CREATE TABLE created_users USING cassandra OPTIONS (keyspace 'k', table 'users');
                 CREATE TABLE files (id STRING NOT NULL, age INT, extra DATE) USING parquet PARTITIONED BY (age);
                 CREATE TABLE nowhere USING noop",
            )
            .await;
        bench
    }

    async fn try_run(&mut self, text: &str) -> Result<Planned> {
        let mut last = Err(Error::internal("no statement"));
        for statement in parse(text)? {
            let planned = self.planner.plan(&statement, &mut self.session).await?;
            if let Planned::Drop(removal) = &planned {
                self.planner.forget(removal).await?;
            }
            last = Ok(planned);
        }
        last
    }

    async fn run(&mut self, text: &str) -> Planned {
        match self.try_run(text).await {
            Ok(planned) => planned,
            Err(error) => panic!("{text}\n{error}"),
        }
    }

    /// Rows of a statement, as a table of text.
    async fn rows(&mut self, text: &str) -> String {
        let batches = match self.run(text).await {
            Planned::Answer(batch) => vec![batch],
            Planned::Rows(plan) | Planned::Write { input: plan, .. } => {
                let state = self.planner.state(&self.session.conf).expect("state");
                let plan = state.create_physical_plan(&plan).await.unwrap_or_else(|e| panic!("{text}\n{e}"));
                collect(plan, state.task_ctx()).await.unwrap_or_else(|e| panic!("{text}\n{e}"))
            }
            other => panic!("{text} has no rows: {other:?}"),
        };
        pretty_format_batches(&batches).expect("prints").to_string()
    }

    async fn flow(&mut self, text: &str) -> Result<PlannedFlow> {
        match self.try_run(text).await? {
            Planned::Flow(flow) => self.planner.plan_flow(&flow, "q1", "/checkpoint").await,
            other => panic!("{text} is no flow: {other:?}"),
        }
    }

    async fn check_error(&mut self, text: &str, expect: &str) {
        let outcome = match self.try_run(text).await {
            Ok(Planned::Flow(flow)) => self.planner.plan_flow(&flow, "q1", "/checkpoint").await.map(|_| ()),
            other => other.map(|_| ()),
        };
        let message = outcome.expect_err(text).to_string();
        assert!(message.contains(expect), "{text}\n  gives {message}\n  not   {expect}");
        assert!(!message.contains("hunter2"), "{message}");
    }
}

/// The plan as an executor gets it.
fn travelled(plan: &Arc<dyn ExecutionPlan>) -> Arc<dyn ExecutionPlan> {
    let codec = HeadwaterPhysicalCodec::default();
    let bytes = physical_plan_to_bytes_with_extension_codec(Arc::clone(plan), &codec).expect("encodes");
    let registry = crate::session::function_registry();
    let context = TaskContext::new(
        None,
        "executor".into(),
        SessionConfig::new(),
        registry.scalar_functions,
        registry.higher_order_functions,
        registry.aggregate_functions,
        registry.window_functions,
        Arc::new(RuntimeEnv::default()),
    );
    physical_plan_from_bytes_with_extension_codec(&bytes, &context, &codec).expect("decodes")
}

fn text_of(plan: &Arc<dyn ExecutionPlan>) -> String {
    displayable(plan.as_ref()).indent(true).to_string()
}

fn columns_of(schema: &SchemaRef) -> String {
    schema.fields().iter().map(|field| field.name().as_str()).collect::<Vec<_>>().join(", ")
}

fn scans(plan: &Arc<dyn ExecutionPlan>) -> Vec<(usize, String)> {
    let mut found: Vec<_> = plan
        .downcast_ref::<SourceScanExec>()
        .map(|scan| (scan.source().expect("is a stream's"), columns_of(&scan.schema())))
        .into_iter()
        .collect();
    found.extend(plan.children().into_iter().flat_map(scans));
    found
}

#[tokio::test]
async fn the_classic_flow() {
    let mut bench = Bench::new().await;
    let flow = bench
        .flow(&format!(
            "CREATE FLOW users AS INSERT INTO nowhere BY NAME
             SELECT data.* FROM (SELECT from_json(CAST(value AS STRING), '{USERS}') AS data FROM STREAM(users_created))"
        ))
        .await
        .expect("plans");
    assert_eq!(columns_of(&flow.schema), "id, first_name, age, address");
    assert_eq!(flow.sources.len(), 1);
    let text = text_of(&flow.plan);
    assert_eq!(text.matches("from_json(").count(), 1, "{text}");
    assert!(!text.contains(BINARY_TO_STRING) && !text.contains("CAST"), "{text}");
    assert_eq!(scans(&flow.plan), [(0, "value".to_string())], "{text}");
    assert!(!text.contains("Repartition") && !text.contains("Coalesce"), "{text}");
    // Planned as for several partitions, and every one of them passes through.
    assert_eq!(flow.plan.output_partitioning().partition_count(), 2, "{text}");
    assert!(flow.sink.description().contains("streaming: true"));
}

#[tokio::test]
async fn a_payload_is_parsed_once() {
    let mut bench = Bench::new().await;
    let inner =
        format!("(SELECT from_json(CAST(value AS STRING), '{USERS}') AS data, topic FROM STREAM(users_created))");
    let queries = [
        format!("SELECT data.* FROM {inner}"),
        format!("SELECT data.* FROM {inner} WHERE data.id IS NOT NULL"),
        format!("SELECT data.* FROM {inner} WHERE data.id IS NOT NULL AND topic = 'users' AND data.age > 3"),
        format!("SELECT data.id, upper(data.first_name) AS n FROM {inner} WHERE data.address.city LIKE 'L%'"),
        format!("SELECT x.id, x.age + x.age AS a FROM (SELECT data.* FROM {inner}) x WHERE x.age > 1 OR x.id = '2'"),
        format!("WITH d AS {inner}, e AS (SELECT data.* FROM d) SELECT * FROM e WHERE age BETWEEN 1 AND 99"),
        format!(
            "SELECT from_json(value, '{USERS}').id AS a, from_json(value, '{USERS}').age AS b FROM STREAM(users_created)"
        ),
        format!("SELECT data.id FROM {inner} WHERE data.id IS NOT NULL"),
        format!("SELECT topic FROM {inner} WHERE data.id IS NOT NULL"),
        format!("SELECT data FROM {inner} WHERE data IS NOT NULL AND data.age > 3"),
    ];
    for query in queries {
        let flow = bench.flow(&format!("CREATE FLOW f AS INSERT INTO nowhere {query}")).await;
        let flow = flow.unwrap_or_else(|error| panic!("{query}\n{error}"));
        let text = text_of(&flow.plan);
        assert_eq!(text.matches("from_json(").count(), 1, "{query}\n{text}");
        assert!(!text.contains(BINARY_TO_STRING), "{query}\n{text}");
    }
}

#[tokio::test]
async fn what_is_cheap_is_filtered_first() {
    let mut bench = Bench::new().await;
    let query = format!(
        "SELECT data.id FROM (SELECT from_json(value, '{USERS}') AS data, topic FROM STREAM(users_created)) \
         WHERE data.age > 3 AND topic = 'users'"
    );
    let flow = bench.flow(&format!("CREATE FLOW f AS INSERT INTO nowhere {query}")).await.expect("plans");
    let text = text_of(&flow.plan);
    let order = ["age) > 3", "from_json(", "= users", "SourceScanExec"].map(|part| text.find(part));
    assert!(order.iter().all(Option::is_some) && order.is_sorted(), "{order:?}\n{text}");
}

#[tokio::test]
async fn what_is_shared_is_right() {
    let mut bench = Bench::new().await;
    let inner =
        format!("(SELECT from_json(CAST(value AS STRING), '{USERS}') AS data, topic, offset FROM users_created)");
    let actual = bench
        .rows(&format!(
            "SELECT data.*, offset FROM {inner} WHERE data.age > 3 AND topic = 'users' ORDER BY data.id DESC"
        ))
        .await;
    assert_eq!(
        actual,
        "\
+----+------------+-----+-------------------------+--------+
| id | first_name | age | address                 | offset |
+----+------------+-----+-------------------------+--------+
| 2  | Bo         | 7   |                         | 1      |
| 1  | Ada        | 36  | {city: London, Zip: W1} | 0      |
+----+------------+-----+-------------------------+--------+"
    );
    let actual = bench.rows(&format!("SELECT Data.ADDRESS.* FROM {inner} WHERE OFFSET = 0")).await;
    assert_eq!(
        actual,
        "\
+--------+-----+
| city   | Zip |
+--------+-----+
| London | W1  |
+--------+-----+"
    );
    // Bytes that are no UTF-8 do not fail a cast.
    let actual = bench.rows("SELECT CAST(key AS STRING) AS k FROM users_created WHERE offset = 3").await;
    assert!(actual.contains('\u{fffd}'), "{actual}");
}

#[tokio::test]
async fn names_ignore_case() {
    let mut bench = Bench::new().await;
    let actual = bench
        .rows(
            "WITH Q AS (SELECT TIMESTAMPTYPE AS Kind, Offset FROM Users_Created U WHERE u.TOPIC = 'users') \
               SELECT KIND, q.offset FROM q WHERE OFFSET < 1",
        )
        .await;
    assert_eq!(
        actual,
        "\
+------+--------+
| KIND | offset |
+------+--------+
| 0    | 0      |
+------+--------+"
    );
}

#[tokio::test]
async fn streams_of_no_state_alone() {
    let mut bench = Bench::new().await;
    let stream = "STREAM(users_created)";
    let cases = [
        (format!("SELECT topic, count(*) FROM {stream} GROUP BY topic"), "streaming aggregation"),
        (format!("SELECT DISTINCT topic FROM {stream}"), "DISTINCT"),
        (format!("SELECT topic FROM {stream} ORDER BY offset"), "sorting is not supported"),
        (format!("SELECT topic FROM {stream} LIMIT 3"), "LIMIT"),
        (format!("SELECT row_number() OVER (ORDER BY offset) FROM {stream}"), "window functions"),
        (format!("SELECT a.topic FROM {stream} a JOIN {stream} b ON a.key = b.key"), "join of two streams"),
        (
            format!("SELECT a.topic FROM users_created a LEFT JOIN {stream} b ON a.key = b.key"),
            "Left join with the stream",
        ),
        (format!("SELECT topic FROM {stream} UNION SELECT topic FROM {stream}"), "UNSUPPORTED_STREAMING_OPERATOR"),
        (format!("SELECT topic FROM {stream} UNION ALL SELECT topic FROM users_created"), "UNION ALL of a stream"),
        (format!("SELECT topic FROM {stream} EXCEPT SELECT id FROM created_users"), "UNSUPPORTED_STREAMING_OPERATOR"),
        (format!("SELECT 1 AS a FROM users_created WHERE topic IN (SELECT topic FROM {stream})"), "inside a subquery"),
        ("SELECT 1 AS a FROM users_created".into(), "[INVALID_FLOW_QUERY_TYPE] flow f reads no stream"),
    ];
    for (query, expect) in cases {
        bench.check_error(&format!("CREATE FLOW f AS INSERT INTO nowhere {query}"), expect).await;
    }
    bench.check_error("SELECT * FROM STREAM(users_created)", "must be run by a flow: CREATE FLOW").await;
    bench.check_error("INSERT OVERWRITE nowhere SELECT topic FROM STREAM(users_created)", "INSERT OVERWRITE").await;
}

#[tokio::test]
async fn streams_meet_tables_and_streams() {
    let mut bench = Bench::new().await;
    let join = "CREATE FLOW f AS INSERT INTO nowhere \
                SELECT s.topic, u.city FROM STREAM(users_created) s LEFT JOIN created_users u \
                ON CAST(s.key AS STRING) = u.id";
    let flow = bench.flow(join).await.expect("plans");
    assert_eq!(scans(&flow.plan), [(0, "key, topic".to_string())]);
    assert_eq!(flow.plan.output_partitioning().partition_count().min(2), 2, "{}", text_of(&flow.plan));
    let union = "CREATE FLOW f AS INSERT INTO nowhere \
                 SELECT topic FROM STREAM(users_created) UNION ALL SELECT topic FROM STREAM users_created";
    let flow = bench.flow(union).await.expect("plans");
    assert_eq!(flow.sources.len(), 2);
    let mut found = scans(&flow.plan);
    found.sort();
    assert_eq!(found, [(0, "topic".to_string()), (1, "topic".to_string())]);
}

#[tokio::test]
async fn a_flow_stands_alone() {
    let mut bench = Bench::new().await;
    bench.run("CREATE VIEW raw (body, t) AS SELECT CAST(value AS STRING), topic FROM STREAM(users_created)").await;
    let Planned::Flow(flow) =
        bench.run("SET a.b=c; CREATE FLOW f AS INSERT INTO nowhere SELECT body FROM Raw WHERE T = 'users'").await
    else {
        panic!("is a flow")
    };
    assert_eq!(flow.tables.keys().collect::<Vec<_>>(), ["raw", "users_created"]);
    assert_eq!((flow.target.name.as_str(), flow.conf["a.b"].as_str()), ("nowhere", "c"));
    bench.run("DROP VIEW raw; DROP TABLE users_created; DROP TABLE nowhere").await;
    let text = serde_json::to_string(&flow).expect("is JSON");
    let again: FlowDefinition = serde_json::from_str(&text).expect("was JSON");
    assert_eq!(again, flow);
    let planned = bench.planner.plan_flow(&again, "q2", "/checkpoint").await.expect("plans");
    assert_eq!(columns_of(&planned.schema), "body");
}

#[tokio::test]
async fn views_keep_their_database() {
    let mut bench = Bench::new().await;
    bench
        .run(
            "CREATE VIEW t AS SELECT 'default' AS whose; CREATE DATABASE d; USE d; \
             CREATE VIEW t AS SELECT 'd' AS whose; CREATE VIEW v AS SELECT whose, current_database() AS c FROM t; \
             CREATE TEMPORARY VIEW w AS SELECT * FROM v; CREATE VIEW default.u AS SELECT * FROM t; USE default",
        )
        .await;
    for query in ["SELECT whose, c FROM d.v", "SELECT whose, c FROM w", "SELECT whose, 'default' AS c FROM u"] {
        assert_eq!(
            bench.rows(query).await,
            "\
+-------+---------+
| whose | c       |
+-------+---------+
| d     | default |
+-------+---------+",
            "{query}"
        );
    }
    let shown = bench.rows("SHOW COLUMNS IN d.v").await;
    assert!(shown.contains("whose"), "{shown}");
    bench.run("USE d; ALTER VIEW default.u AS SELECT whose AS changed FROM t; USE default").await;
    assert!(bench.rows("SELECT changed FROM u").await.contains("| d "));
}

#[tokio::test]
async fn flows_keep_tables_of_several_databases_apart() {
    let mut bench = Bench::new().await;
    bench
        .run(
            "CREATE DATABASE d; USE d; CREATE TABLE users_created USING kafka OPTIONS (topic 'd'); \
             CREATE VIEW v AS SELECT topic FROM STREAM(users_created); USE default",
        )
        .await;
    let Planned::Flow(flow) = bench
        .run(
            "CREATE FLOW f AS INSERT INTO nowhere SELECT v.topic FROM d.v JOIN users_created u ON u.topic = v.topic \
             JOIN default.users_created w ON w.topic = v.topic",
        )
        .await
    else {
        panic!("is a flow")
    };
    assert_eq!(
        flow.tables.keys().collect::<Vec<_>>(),
        ["d.users_created", "d.v", "default.users_created", "users_created"]
    );
    assert_eq!(flow.tables["d.users_created"].options.get("topic"), Some("d"));
    bench.planner.plan_flow(&flow, "q", "/checkpoint").await.expect("plans");
    // As flows were kept before views knew their database.
    let mut old = flow.clone();
    old.tables.remove("default.users_created");
    if let Some(own) = old.tables.remove("d.users_created") {
        old.tables.insert("users_created".into(), own);
    }
    if let Some(view) = old.tables.get_mut("d.v") {
        view.database = None;
    }
    bench.planner.plan_flow(&old, "q", "/checkpoint").await.expect("plans");
}

#[tokio::test]
async fn inserts_fit_their_tables() {
    let mut bench = Bench::new().await;
    let Planned::Write { input, mode, table_name, new, .. } =
        bench.run("INSERT INTO files BY NAME SELECT offset AS Age, topic AS id FROM users_created").await
    else {
        panic!("is a write")
    };
    assert_eq!((mode, table_name.as_str(), new), (WriteMode::Append, "files", None));
    assert_eq!(columns_of(input.schema().inner()), "id, extra, age");
    let Planned::Write { input, mode, .. } =
        bench.run("INSERT OVERWRITE created_users (id, age) VALUES ('a', 1)").await
    else {
        panic!("is a write")
    };
    assert_eq!((mode, columns_of(input.schema().inner()).as_str()), (WriteMode::Overwrite, "id, age"));
    let Planned::Write { input, .. } = bench.run("INSERT INTO created_users VALUES ('a', 'b', 'c', 1)").await else {
        panic!("is a write")
    };
    assert_eq!(columns_of(input.schema().inner()), "id, city, first_name, age");
    bench.check_error("INSERT INTO files VALUES ('a', 1)", "[INSERT_COLUMN_ARITY_MISMATCH.NOT_ENOUGH").await;
    bench.check_error("INSERT INTO created_users BY NAME SELECT 1 AS nope", "cannot write extra columns `nope`").await;
    bench.check_error("INSERT INTO nope SELECT 1", "[TABLE_OR_VIEW_NOT_FOUND] the table or view `nope`").await;
    bench.check_error("INSERT INTO files SELECT nope FROM created_users", "[UNRESOLVED_COLUMN.WITH_SUGGESTION]").await;
    let Planned::Flow(flow) = bench.run("INSERT INTO nowhere SELECT topic FROM STREAM users_created").await else {
        panic!("is a flow")
    };
    assert_eq!(flow.name, "nowhere");
}

#[tokio::test]
async fn tables_are_made() {
    let mut bench = Bench::new().await;
    let Planned::Write { target, new, input, .. } =
        bench.run("CREATE TABLE copy USING csv AS SELECT topic, offset FROM users_created").await
    else {
        panic!("is a write")
    };
    assert_eq!((new, target.kind(), target.path()), (Some(Taken::Refuse), "MANAGED", Some("file:///w/copy")));
    assert_eq!(target.schema.as_deref(), Some("topic STRING, offset BIGINT"));
    assert_eq!(columns_of(input.schema().inner()), "topic, offset");
    let Planned::Flow(flow) = bench
        .run("CREATE STREAMING TABLE live USING parquet LOCATION '/x' AS SELECT topic FROM STREAM(users_created)")
        .await
    else {
        panic!("is a flow")
    };
    assert_eq!((flow.name.as_str(), flow.target.options.get("path")), ("live", Some("/x")));
    bench.planner.plan_flow(&flow, "q", "/checkpoint").await.expect("plans");
    bench.check_error("CREATE TABLE live USING parquet", "[TABLE_OR_VIEW_ALREADY_EXISTS]").await;
    assert!(matches!(bench.run("CREATE TABLE IF NOT EXISTS live USING csv").await,
        Planned::Done(text) if text == "table live exists already"));
    bench.check_error("CREATE TABLE x USING nope", "[DATA_SOURCE_NOT_FOUND]").await;
    bench.check_error("CREATE TABLE x (a NOPE) USING csv", "NOPE").await;
    bench.check_error("CREATE TABLE x (a INT) USING csv PARTITIONED BY (b)", "[COLUMN_NOT_DEFINED_IN_TABLE]").await;
    bench.check_error("CREATE TABLE other.x (a INT) USING csv", "[SCHEMA_NOT_FOUND]").await;
    bench.check_error("DROP VIEW live", "[WRONG_COMMAND_FOR_OBJECT_TYPE] `live` is a table").await;
    bench.run("DROP TABLE live; DROP TABLE IF EXISTS live").await;
    bench.check_error("DROP TABLE live", "[TABLE_OR_VIEW_NOT_FOUND]").await;
}

#[tokio::test]
async fn views_show() {
    let mut bench = Bench::new().await;
    bench.run("CREATE VIEW v (a) AS SELECT topic FROM users_created; CREATE TEMP VIEW w AS SELECT A FROM V").await;
    assert!(bench.rows("SELECT W.a FROM w LIMIT 1").await.contains("users"));
    bench.check_error("INSERT INTO v SELECT 1", "[UNSUPPORTED_INSERT.VIEW]").await;
    bench.check_error("CREATE OR REPLACE VIEW v AS SELECT * FROM v", "[RECURSIVE_VIEW]").await;
    bench.check_error("CREATE VIEW x (a, b) AS SELECT 1", "[CREATE_VIEW_COLUMN_ARITY_MISMATCH.NOT_ENOUGH").await;
    bench.check_error("CREATE VIEW x AS SELECT nope FROM v", "[UNRESOLVED_COLUMN").await;
    bench.check_error("CREATE TEMP VIEW w AS SELECT 1", "[TEMP_TABLE_OR_VIEW_ALREADY_EXISTS]").await;
    assert_eq!(
        bench.rows("SHOW VIEWS").await,
        "\
+-----------+----------+-------------+
| namespace | viewName | isTemporary |
+-----------+----------+-------------+
| default   | v        | false       |
|           | w        | true        |
+-----------+----------+-------------+"
    );
    bench.run("DROP VIEW w").await;
    bench.check_error("SELECT * FROM w", "[TABLE_OR_VIEW_NOT_FOUND]").await;
}

#[tokio::test]
async fn tables_are_described() {
    let mut bench = Bench::new().await;
    assert_eq!(
        bench.rows("DESCRIBE files").await,
        "\
+-------------------------+-----------+---------+
| col_name                | data_type | comment |
+-------------------------+-----------+---------+
| id                      | string    |         |
| extra                   | date      |         |
| age                     | int       |         |
| # Partition Information |           |         |
| age                     | int       |         |
+-------------------------+-----------+---------+"
    );
    for text in ["DESCRIBE EXTENDED users_created", "SHOW CREATE TABLE users_created"] {
        let actual = bench.rows(text).await;
        assert!(actual.contains("*********(redacted)") && actual.contains("subscribe"), "{actual}");
        assert!(!actual.contains("hunter2"), "{actual}");
    }
    let Planned::Answer(batch) = bench.run("SHOW CREATE TABLE files").await else { panic!("is an answer") };
    let text = arrow::util::display::array_value_to_string(batch.column(0), 0).expect("text");
    let Statement::CreateTable(table) = parse(&text).expect(&text).remove(0) else { panic!("{text}") };
    assert_eq!(
        (table.columns.as_deref(), table.partition_by),
        (Some("id STRING NOT NULL, extra DATE, age INT"), vec!["age".to_string()])
    );
    assert!(bench.rows("SHOW TABLES LIKE '*USERS|nope'").await.contains("created_users"));
    assert!(bench.rows("SHOW FUNCTIONS LIKE 'from_j*'").await.contains("from_json"));
    let explained = bench.rows("EXPLAIN EXTENDED SELECT topic FROM users_created WHERE offset > 1").await;
    assert!(explained.contains("== Optimized Logical Plan ==") && explained.contains("== Physical Plan =="));
    let explained =
        bench.rows("EXPLAIN CREATE FLOW f AS INSERT INTO nowhere SELECT key FROM STREAM users_created").await;
    assert!(explained.contains("SourceScanExec"), "{explained}");
    let completions = bench.planner.completions();
    assert!(completions.tables.contains(&"files".to_string()));
    assert!(completions.functions.contains(&"from_json".to_string()) && !completions.keywords.is_empty());
}

#[tokio::test]
async fn settings_reach_connectors() {
    let mut bench = Bench::new().await;
    bench.run("SET spark.cassandra.connection.host=10.0.0.1; SET spark.cassandra.auth.password=hunter2").await;
    bench.told.lock().expect("told").clear();
    bench.run("SELECT * FROM created_users").await;
    let told = bench.told.lock().expect("told").clone();
    assert_eq!(told[0].get("spark.cassandra.connection.host"), Some("10.0.0.1"));
    assert_eq!(told[0].get("keyspace"), Some("k"));
    assert!(!bench.rows("SET").await.contains("hunter2"));
    assert!(bench.rows("SET nope").await.contains("<undefined>"));
    for (key, expect) in [("spark.sql.ansi.enabled", "true"), ("spark.sql.shuffle.partitions", "16")] {
        let row = lines(&bench.rows(&format!("SET {key}")).await).concat();
        assert!(row.starts_with(key) && row.ends_with(expect), "{row}");
    }
    bench.check_error("SET spark.sql.warehouse.dir=/x", "[CANNOT_MODIFY_STATIC_CONFIG]").await;
    bench.check_error("RESET spark.sql.warehouse.dir", "[CANNOT_MODIFY_STATIC_CONFIG]").await;
    bench.check_error("SET spark.sql.ansi.enabled=maybe", "[INVALID_CONF_VALUE.TYPE_MISMATCH]").await;
    bench.check_error("SET spark.sql.shuffle.partitions=none", "[INVALID_CONF_VALUE]").await;
    bench.told.lock().expect("told").clear();
    bench
        .flow("CREATE FLOW f AS INSERT INTO files BY NAME SELECT topic AS id FROM STREAM users_created")
        .await
        .expect("plans");
    let told = bench.told.lock().expect("told").clone();
    assert_eq!(told.last().and_then(|options| options.get("partitionBy")), Some("age"));
}

#[tokio::test]
async fn declared_columns_are_sparks() {
    let mut bench = Bench::new().await;
    bench.run("CREATE TABLE t (a VARCHAR(3), b CHAR(5), c INT NOT NULL) USING parquet").await;
    let shown = bench.rows("DESCRIBE t").await;
    assert!(shown.contains("varchar(3)") && shown.contains("char(5)"), "{shown}");
    assert!(bench.rows("DESCRIBE t b").await.contains("char(5)"));
    // NOT NULL of files counts for nothing in Spark, either.
    let rows = bench.rows("INSERT INTO t VALUES ('ab    ', 'x   ', NULL), (NULL, 'abcde', 1)").await;
    assert_eq!(lines(&rows), ["ab  | x     |", "| abcde | 1"]);
    let Planned::Write { input, .. } = bench.run("INSERT INTO t (a) SELECT topic FROM users_created").await else {
        panic!("is a write")
    };
    let state = bench.planner.state(&bench.session.conf).expect("state");
    let plan = state.create_physical_plan(&input).await.expect("plans");
    let error = collect(plan, state.task_ctx()).await.expect_err("is too long").to_string();
    assert!(error.contains("[EXCEED_LIMIT_LENGTH]") && error.contains("column `a` is given 5"), "{error}");
    for columns in ["a INT, A INT", "a STRUCT<x: INT, X: INT>", "a ARRAY<STRUCT<x: INT, X: INT>>"] {
        bench.check_error(&format!("CREATE TABLE d ({columns}) USING parquet"), "[COLUMN_ALREADY_EXISTS]").await;
    }
}

#[tokio::test]
async fn partitions_are_written_by_name() {
    let mut bench = Bench::new().await;
    bench.run("CREATE TABLE t (p INT, a STRING, q DATE, b INT) USING parquet PARTITIONED BY (p, q)").await;
    for (text, expect) in [
        ("PARTITION (p = '7', q = DATE '2024-01-02') VALUES ('x', 1)", "x | 1 | 7 | 2024-01-02"),
        ("PARTITION (q = NULL, P = -7) (b, a) SELECT 1, 'x'", "x | 1 | -7 |"),
        ("PARTITION (p = 7, q) SELECT 'x', 1, DATE '2024-01-02'", "x | 1 | 7 | 2024-01-02"),
        ("PARTITION (p, q) SELECT 'x', 1, 7, DATE '2024-01-02'", "x | 1 | 7 | 2024-01-02"),
        ("PARTITION (p = 7, q) BY NAME SELECT DATE '2024-01-02' AS q, 1 AS b, 'x' AS a", "x | 1 | 7 | 2024-01-02"),
    ] {
        assert_eq!(lines(&bench.rows(&format!("INSERT INTO t {text}")).await), [expect], "{text}");
    }
    let overwrite = "INSERT OVERWRITE t PARTITION (p = 7, q) SELECT 'x', 1, DATE '2024-01-02'";
    bench.check_error(overwrite, "[UNSUPPORTED_FEATURE] INSERT OVERWRITE `t` PARTITION").await;
    bench
        .check_error("INSERT INTO t PARTITION (a = 'x') SELECT 1", "[PARTITIONS_NOT_FOUND] the partition(s) `a`")
        .await;
    bench.check_error("INSERT INTO t PARTITION (p = 7, q) SELECT 'x'", "[INSERT_COLUMN_ARITY_MISMATCH.NOT").await;
    let flow = "CREATE FLOW f AS INSERT INTO t PARTITION (p = 7, q) SELECT topic, 1, 2 FROM STREAM users_created";
    bench.check_error(flow, "INSERT … PARTITION of a stream").await;
    let conf = BTreeMap::from([("spark.sql.sources.partitionOverwriteMode".to_string(), "dynamic".to_string())]);
    let table = bench.planner.catalog().get("t").expect("is there");
    assert_eq!(sink_options(&table, &conf).get("partitionOverwriteMode"), Some("dynamic"));
    // A table that takes another's place keeps nothing of it.
    let text = "CREATE OR REPLACE TABLE t USING parquet PARTITIONED BY (p) \
                AS SELECT CAST(offset AS INT) AS p, offset AS a FROM users_created";
    let Planned::Write { target, .. } = bench.run(text).await else { panic!("is a write") };
    let kept = (target.schema.as_deref(), target.options.get("partitionOverwriteMode"));
    assert_eq!(kept, (Some("a BIGINT, p INT"), None));
    assert_eq!(sink_options(&target.replacing(), &conf).get("partitionOverwriteMode"), Some("static"));
}

#[tokio::test]
async fn tables_are_made_like_others() {
    let mut bench = Bench::new().await;
    bench.run("CREATE TABLE one LIKE files; CREATE TABLE two LIKE files USING json LOCATION '/x'").await;
    let one = bench.planner.catalog().get("one").expect("is there");
    assert_eq!(one.schema.as_deref(), Some("id STRING NOT NULL, extra DATE, age INT"));
    assert_eq!((one.format.as_str(), one.options.get("path")), ("parquet", Some("file:///w/one")));
    assert_eq!(one.partition_by, ["age"]);
    let two = bench.planner.catalog().get("two").expect("is there");
    assert_eq!((two.format.as_str(), two.options.get("path")), ("json", Some("/x")));
    bench.run("CREATE VIEW v AS SELECT topic, offset FROM users_created; CREATE TABLE three LIKE v").await;
    let three = bench.planner.catalog().get("three").expect("is there");
    assert_eq!((three.format.as_str(), three.schema.as_deref()), ("parquet", Some("topic STRING, offset BIGINT")));
    bench.run("CREATE TABLE IF NOT EXISTS one LIKE v").await;
    bench.check_error("CREATE TABLE one LIKE v", "[TABLE_OR_VIEW_ALREADY_EXISTS]").await;
    bench.check_error("CREATE TABLE four LIKE nope", "[TABLE_OR_VIEW_NOT_FOUND]").await;
}

#[tokio::test]
async fn what_was_cached_is_remembered() {
    let mut bench = Bench::new().await;
    let cached = |bench: &Bench, name: &str| {
        let key = bench.planner.cache_key(&Name(vec![name.into()]), &bench.session).expect(name);
        bench.session.cached.contains(&key)
    };
    bench.run("CACHE TABLE files; CACHE TABLE v AS SELECT 1 AS a").await;
    assert!(cached(&bench, "FILES") && cached(&bench, "V") && !cached(&bench, "nowhere"));
    bench.run("REFRESH TABLE files; REFRESH '/x'; UNCACHE TABLE IF EXISTS nope").await;
    assert!(cached(&bench, "files"));
    // A view of the same name hides the table, and is another thing.
    bench.run("CREATE TEMP VIEW files AS SELECT 1 AS a").await;
    assert!(!cached(&bench, "files"));
    bench.run("DROP VIEW files; CREATE OR REPLACE TEMP VIEW v AS SELECT 2 AS a").await;
    assert!(cached(&bench, "files") && !cached(&bench, "v"));
    bench.run("UNCACHE TABLE files; CACHE TABLE nowhere").await;
    assert!(!cached(&bench, "files") && cached(&bench, "nowhere"));
    bench.run("CLEAR CACHE").await;
    assert!(!cached(&bench, "nowhere"));
    bench.check_error("UNCACHE TABLE nope", "[TABLE_OR_VIEW_NOT_FOUND]").await;
}

#[tokio::test]
async fn spark_queries() {
    let mut bench = Bench::new().await;
    let cases = [
        ("SELECT \"it's\" AS a", "it's"),
        ("SELECT 1.5 + 1 AS a", "2.5"),
        ("SELECT CAST('2024-01-02 03:04:05' AS TIMESTAMP) AS a", "2024-01-02T03:04:05Z"),
        ("SELECT CAST(7 AS LONG) DIV 2 AS a", "| 3 "),
        ("SELECT 7 / 2 AS a", "3.5"),
        ("SELECT array(5, 6)[0] AS a", "5"),
        ("SELECT map('k', 9)['k'] AS a", "9"),
        ("SELECT 1.5D + 1 AS a", "2.5"),
        ("SELECT 'ab' RLIKE 'a.' AS a", "true"),
        ("SELECT x + 1 AS y, y * 20 AS z FROM VALUES (1) AS t(x)", "40"),
        ("SELECT a FROM VALUES (1, 'x'), (2, 'y') AS t(a, b) WHERE B = 'y'", "2"),
        ("SELECT named_struct('x', 1).x AS a", "1"),
        ("SELECT a FROM VALUES (2), (NULL) AS t(a) ORDER BY a LIMIT 1", "|   |"),
        ("SELECT count(*) AS a FROM parquet.`/data/x`", "0"),
    ];
    for (text, expect) in cases {
        let actual = bench.rows(text).await;
        assert!(actual.contains(expect), "{text}\n{actual}");
    }
    bench.check_error("SELECT from_jsn(value) FROM users_created", "[UNRESOLVED_ROUTINE]").await;
}

/// A column of rows, each on a line of its own.
fn lines(table: &str) -> Vec<String> {
    let rows = table.lines().filter(|line| line.starts_with('|')).skip(1);
    rows.map(|line| line.trim_matches('|').trim().to_string()).collect()
}

#[tokio::test]
async fn aggregates_and_frames_are_sparks() {
    let mut bench = Bench::new().await;
    let over = "OVER (ORDER BY i ROWS BETWEEN";
    let cases: Vec<(String, &[&str])> = vec![
        (
            format!(
                "SELECT sum(x) {over} 1 PRECEDING AND CURRENT ROW) AS a FROM VALUES (1, 1e20D), (2, 1D), (3, 1D) t(i, x)"
            ),
            &["1e20", "1e20", "2.0"],
        ),
        (
            format!(
                "SELECT avg(x) {over} CURRENT ROW AND CURRENT ROW) AS a FROM VALUES (1, double('NaN')), (2, 4D) t(i, x)"
            ),
            &["NaN", "4.0"],
        ),
        (
            format!(
                "SELECT sum(x) {over} CURRENT ROW AND CURRENT ROW) AS a FROM VALUES (1, 9223372036854775807), (2, 1) t(i, x)"
            ),
            &["9223372036854775807", "1"],
        ),
        (
            format!(
                "SELECT collect_set(x) {over} 2 PRECEDING AND 1 PRECEDING) AS a FROM VALUES (1, 7), (2, 8) t(i, x)"
            ),
            &["[]", "[7]"],
        ),
        (
            format!(
                "SELECT count_min_sketch(x, 0.5D, 0.5D, 1) {over} 2 PRECEDING AND 1 PRECEDING) IS NULL AS a FROM VALUES (1, 7), (2, 8) t(i, x)"
            ),
            &["true", "false"],
        ),
        ("SELECT mode(col, true) AS a FROM VALUES (-10), (0), (10) t(col)".into(), &["-10"]),
        ("SELECT mode() WITHIN GROUP (ORDER BY col) AS a FROM VALUES (-10), (0), (10) t(col)".into(), &["-10"]),
        ("SELECT mode() WITHIN GROUP (ORDER BY col DESC) AS a FROM VALUES (-10), (0), (10) t(col)".into(), &["10"]),
        (
            "SELECT count(DISTINCT x, y) AS a FROM VALUES (1, 2), (1, 2), (1, NULL), (NULL, 2), (2, 2) t(x, y)".into(),
            &["2"],
        ),
        (
            "SELECT concat(sum(x), ' ', sum(CAST(x AS DOUBLE)), ' ', sum(CAST(x AS DECIMAL(12,2)))) AS a \
             FROM VALUES (1), (2) t(x)"
                .into(),
            &["3 3.0 3.00"],
        ),
        (
            "SELECT concat(sum(x) OVER (), ' ', sum(CAST(x AS DOUBLE)) OVER ()) AS a FROM VALUES (1), (2) t(x)".into(),
            &["3 3.0"; 2],
        ),
        (
            "SELECT sum(CAST(x AS DOUBLE)) AS a FROM VALUES (1, 1), (2, 9), (3, 5) t(k, x) GROUP BY k \
             HAVING sum(CAST(x AS DOUBLE)) > 2 ORDER BY sum(CAST(x AS DOUBLE)) DESC, sum(x)"
                .into(),
            &["9.0", "5.0"],
        ),
        ("SELECT max_by(DISTINCT x, y) AS a FROM VALUES (NULL, 10), (1, 5) t(x, y)".into(), &[""]),
        ("SELECT max_by(x, y) AS a FROM VALUES ('a', 1), ('b', 1) t(x, y)".into(), &["b"]),
        (
            "SELECT CAST(approx_percentile(x, 0.5) AS STRING) AS a FROM VALUES (INTERVAL '3' MONTH) t(x)".into(),
            &["INTERVAL '0-3' YEAR TO MONTH"],
        ),
        (
            "SELECT CAST(avg(x) AS STRING) AS a FROM VALUES (INTERVAL '3' MONTH), (INTERVAL '4' MONTH) t(x)".into(),
            &["INTERVAL '0-4' YEAR TO MONTH"],
        ),
        (
            "SELECT try_sum(x) IS NULL AS a FROM VALUES (INTERVAL '106751991' DAY), (INTERVAL '1' DAY) t(x)".into(),
            &["true"],
        ),
        ("SELECT x AS a FROM (SELECT sqrt(y) AS x FROM VALUES (-1D), (4D) t(y)) ORDER BY x".into(), &["2.0", "NaN"]),
        (
            "SELECT x AS a FROM (SELECT y - y AS x FROM VALUES (double('Infinity')), (4D) t(y)) ORDER BY x".into(),
            &["0.0", "NaN"],
        ),
        (
            "SELECT x AS a FROM (SELECT -y AS x FROM VALUES (double('NaN')), (4D) t(y)) ORDER BY x".into(),
            &["-4.0", "NaN"],
        ),
    ];
    for (text, expect) in cases {
        assert_eq!(lines(&bench.rows(&text).await), expect, "{text}");
    }
    bench
        .check_error(
            "SELECT sum(DISTINCT i) OVER (ORDER BY i) FROM VALUES (1), (2) t(i)",
            "[DISTINCT_WINDOW_FUNCTION_UNSUPPORTED]",
        )
        .await;
}

/// Variables of lambdas stay variables, wherever the plan is rewritten and whatever columns are there.
#[tokio::test]
async fn lambdas_keep_their_variables() {
    let mut bench = Bench::new().await;
    let t = "VALUES (1, 'p', array(3, NULL), array(named_struct('p', 5, 'q', 'u'))), (2, 'q', NULL, NULL) \
             AS t(k, s, a, l)";
    let r = "(SELECT * FROM VALUES (3), (7) AS r(n)) r";
    let cases: Vec<(String, &[&str])> = vec![
        (format!("SELECT transform(a, x -> x + 1) AS c FROM {t}"), &["[4, ]", ""]),
        (format!("SELECT transform(A, (X, i) -> x + I + K) AS c FROM {t}"), &["[4, ]", ""]),
        (format!("SELECT filter(a, k -> k > 1) AS c FROM {t}"), &["[3]", ""]),
        (format!("SELECT transform(l, i -> i.p + 1) AS c FROM {t}"), &["[6]", ""]),
        (format!("SELECT aggregate(filter(a, x -> x IS NOT NULL), k, (p, x) -> p + x) AS c FROM {t}"), &["4", ""]),
        (format!("SELECT transform(a, x -> exists(a, y -> y = x)) AS c FROM {t}"), &["[true, ]", ""]),
        (format!("SELECT CASE WHEN k = 1 THEN size(filter(a, x -> x > k)) ELSE 0 END AS c FROM {t}"), &["1", "0"]),
        (format!("SELECT k AS c FROM (SELECT k, a FROM {t}) WHERE exists(a, x -> x = 3)"), &["1"]),
        (
            format!(
                "SELECT transform(a, x -> x + b) AS c FROM (SELECT a, get(transform(a, y -> y * k), 0) AS b FROM {t}) u"
            ),
            &["[6, ]", ""],
        ),
        // Conditions of joins whose parts DataFusion would compute below the join.
        (format!("SELECT t.k AS c FROM {t} JOIN {r} ON exists(t.a, x -> x = r.n)"), &["1"]),
        (format!("SELECT t.k AS c FROM {t} JOIN {r} ON exists(t.a, x -> x = r.n AND x > t.k)"), &["1"]),
        (format!("SELECT t.k AS c FROM {t} JOIN {r} ON exists(t.a, x -> x > 2) = (t.k > r.n - 6)"), &["1"]),
    ];
    for (text, expect) in cases {
        let Planned::Rows(plan) = bench.run(&text).await else { panic!("{text}") };
        let state = bench.planner.state(&bench.session.conf).expect("state");
        let plan = state.create_physical_plan(&plan).await.unwrap_or_else(|e| panic!("{text}\n{e}"));
        for plan in [travelled(&plan), plan] {
            let shown = text_of(&plan);
            let batches = collect(plan, state.task_ctx()).await.unwrap_or_else(|e| panic!("{text}\n{shown}{e}"));
            let table = pretty_format_batches(&batches).expect("prints").to_string();
            assert_eq!(lines(&table), expect, "{text}\n{shown}");
        }
    }
}

/// `IN` and `EXISTS` where they are no conditions by themselves. What SQL does not know is FALSE, as in Spark.
#[tokio::test]
async fn subqueries_are_values() {
    let mut bench = Bench::new().await;
    let three = "FROM VALUES (1), (2), (NULL) t(a)";
    let some = "(SELECT x FROM VALUES (1), (5) u(x))";
    let unknown = "(SELECT x FROM VALUES (1), (NULL) u(x))";
    let none = "(SELECT x FROM VALUES (1) u(x) WHERE x > 5)";
    let same = "(SELECT y FROM VALUES (1, 1), (1, NULL), (2, 9) u(x, y) WHERE u.x = t.a)";
    let cases: Vec<(String, &[&str])> = vec![
        (format!("SELECT a, a IN {some} AS v {three} ORDER BY a"), &["| false", "1 | true", "2 | false"]),
        (format!("SELECT a, a IN {unknown} AS v {three} ORDER BY a"), &["| false", "1 | true", "2 | false"]),
        (format!("SELECT a, a IN {none} AS v {three} ORDER BY a"), &["| false", "1 | false", "2 | false"]),
        (format!("SELECT a, a NOT IN {some} AS v {three} ORDER BY a"), &["| false", "1 | false", "2 | true"]),
        (format!("SELECT a, NOT a IN {some} AS v {three} ORDER BY a"), &["| false", "1 | false", "2 | true"]),
        (format!("SELECT a, a NOT IN {unknown} AS v {three} ORDER BY a"), &["| false", "1 | false", "2 | false"]),
        (format!("SELECT a, a NOT IN {none} AS v {three} ORDER BY a"), &["| true", "1 | true", "2 | true"]),
        (format!("SELECT a, a IN {same} AS v {three} ORDER BY a"), &["| false", "1 | true", "2 | false"]),
        (format!("SELECT a, a NOT IN {same} AS v {three} ORDER BY a"), &["| true", "1 | false", "2 | true"]),
        (format!("SELECT a, 9 NOT IN {same} AS v {three} ORDER BY a"), &["| true", "1 | false", "2 | false"]),
        (format!("SELECT 5 IN {some} AS v"), &["true"]),
        (format!("SELECT 2 NOT IN {unknown} AS v"), &["false"]),
        (format!("SELECT NULL IN {some} AS v"), &[""]),
        (format!("SELECT NULL IN {none} AS v"), &["false"]),
        (format!("SELECT EXISTS {some} AS v {three}"), &["true"; 3]),
        (format!("SELECT NOT EXISTS {none} AS v {three}"), &["true"; 3]),
        (
            format!("SELECT a, CASE WHEN EXISTS {same} THEN 'yes' ELSE 'no' END AS v {three} ORDER BY a"),
            &["| no", "1 | yes", "2 | yes"],
        ),
        (
            format!("SELECT a, EXISTS (SELECT 1 FROM VALUES (2) u(x) WHERE u.x >= t.a) AS v {three} ORDER BY a"),
            &["| false", "1 | true", "2 | true"],
        ),
        (
            "SELECT a, a IN (SELECT count(*) FROM VALUES (1), (1) u(x) WHERE u.x = t.a) AS v \
             FROM VALUES (0), (1), (2) t(a) ORDER BY a"
                .into(),
            &["0 | true", "1 | false", "2 | false"],
        ),
        // A derived table's columns have its name.
        (
            "SELECT a, a IN (SELECT r.k FROM VALUES (3, 7), (2, 8) r(k, id) JOIN \
             (SELECT * FROM VALUES (7, 3), (8, 1) w(id, m) WHERE w.m = t.a) s ON r.id = s.id) AS v \
             FROM VALUES (1), (3) t(a) ORDER BY a"
                .into(),
            &["1 | false", "3 | true"],
        ),
        (format!("SELECT a AS v {three} WHERE a = 2 OR a NOT IN {unknown}"), &["2"]),
        (format!("SELECT a AS v {three} WHERE a = 2 OR a IN {unknown} ORDER BY a"), &["1", "2"]),
        (format!("SELECT a AS v {three} GROUP BY a HAVING a IN {some} OR count(*) > 5"), &["1"]),
        (format!("SELECT sum(CASE WHEN a IN {some} THEN 10 ELSE 1 END) AS v {three}"), &["12"]),
        (format!("SELECT count(*) FILTER (WHERE NOT EXISTS {same}) AS v {three}"), &["1"]),
        (
            format!("SELECT a, count(*) OVER (PARTITION BY a IN {some}) AS v {three} ORDER BY a"),
            &["| 2", "1 | 1", "2 | 2"],
        ),
        (
            format!("SELECT a, b {three} LEFT JOIN (SELECT 1 AS b) s ON a > 0 AND a NOT IN {some} ORDER BY a"),
            &["|", "1 |", "2 | 1"],
        ),
        (
            format!("SELECT a, b {three} JOIN (SELECT 1 AS b) s ON a = b + 1 OR a IN {some} ORDER BY a"),
            &["1 | 1", "2 | 1"],
        ),
    ];
    for (text, expect) in cases {
        assert_eq!(lines(&bench.rows(&text).await), expect, "{text}");
    }
    // What cannot be told apart, or would mean something else above a join, is refused.
    for text in [
        "SELECT a IN (SELECT r.k FROM VALUES (1, 7) r(k, id) JOIN (SELECT * FROM VALUES (7, 1) w(id, k) WHERE w.k = t.a) s \
         ON r.id = s.id) AS v FROM VALUES (1) t(a)",
        "SELECT a IN (SELECT max(y) OVER () FROM VALUES (1, 5) u(x, y) WHERE u.x = t.a) AS v FROM VALUES (1) t(a)",
    ] {
        let Planned::Rows(plan) = bench.run(text).await else { panic!("{text}") };
        let state = bench.planner.state(&bench.session.conf).expect("state");
        state.create_physical_plan(&plan).await.expect_err(text);
    }
}

/// Tasks cannot tell each other which rows of the left side found a match.
#[tokio::test]
async fn a_join_without_equality_tells_of_each_row_once() {
    let mut bench = Bench::new().await;
    let many = "(SELECT x FROM VALUES (3), (4), (5), (6) t(x) UNION ALL SELECT x FROM VALUES (7), (8), (9) t(x)) r";
    // What counts them is another stage than the join.
    let text = format!("SELECT count(*) AS n FROM VALUES (1) l(a) LEFT JOIN {many} ON a > x");
    let Planned::Rows(plan) = bench.run(&text).await else { panic!("{text}") };
    let mut state = bench.planner.state(&bench.session.conf).expect("state");
    let planned = state.create_physical_plan(&plan).await.expect("plans");
    let shown = text_of(&planned);
    assert!(shown.contains("NestedLoopJoinExec: join_type=Left,"), "{shown}");
    let stages = DefaultDistributedPlanner::new().plan_query_stages(&"job".into(), planned, state.config_options());
    let mut rights = vec![];
    for stage in stages.expect("stages") {
        for child in stage.children() {
            let found = child.apply(|node| {
                if let Some(join) = node.downcast_ref::<NestedLoopJoinExec>() {
                    rights.push(join.right().output_partitioning().partition_count());
                }
                Ok(TreeNodeRecursion::Continue)
            });
            found.expect("the closure never fails");
        }
    }
    assert_eq!(rights, [1], "{shown}");
    state.config_mut().options_mut().optimizer.enable_round_robin_repartition = true;
    let planned = state.create_physical_plan(&plan).await.expect("plans");
    assert!(!text_of(&planned).contains("GlobalLimitExec"), "one process needs none");
}

#[test]
fn patterns_are_sparks() {
    let check = |pattern: &str, name: &str, expect: bool| {
        assert_eq!(matches_pattern(name, Some(pattern)), expect, "{pattern} {name}");
    };
    check("a*", "ABC", true);
    check("*b*", "abc", true);
    check("a", "abc", false);
    check("abc", "abc", true);
    check("x|*c", "abc", true);
    check("a*bc*c", "abc", false);
    check("*", "", true);
    check("", "a", false);
}

#[tokio::test]
async fn columns_are_named_as_in_spark() {
    let mut bench = Bench::new().await;
    let cases = [
        ("SELECT CAST(key AS STRING), CAST(u.value AS STRING) FROM users_created u", "key, value"),
        (
            "SELECT data.id, data.address.city FROM (SELECT from_json(value, 'id INT, address STRUCT<city: STRING>') \
          AS data FROM users_created)",
            "id, city",
        ),
        ("SELECT 1 + 1, upper('x'), -offset FROM users_created", "(1 + 1), upper(x), (- offset)"),
        (
            "SELECT topic, COUNT(*), sum(offset) FROM users_created GROUP BY topic ORDER BY count(*), sum(offset)",
            "topic, count(1), sum(offset)",
        ),
        ("SELECT DISTINCT upper(topic) FROM users_created ORDER BY upper(topic)", "upper(topic)"),
        ("SELECT upper(topic) FROM users_created GROUP BY upper(topic) HAVING upper(topic) > 'A'", "upper(topic)"),
        ("SELECT topic FROM users_created u ORDER BY u.offset DESC", "topic"),
        (
            "SELECT EXISTS (SELECT 1), 1 NOT IN (SELECT 1), count(DISTINCT topic, offset) FROM users_created",
            "exists(), (NOT (1 IN (listquery()))), count(DISTINCT topic, offset)",
        ),
    ];
    for (text, expect) in cases {
        let Planned::Rows(plan) = bench.run(text).await else { panic!("{text}") };
        assert_eq!(columns_of(plan.schema().inner()), expect, "{text}");
        bench.rows(text).await;
    }
    let flow = bench.flow("CREATE FLOW f AS INSERT INTO created_users BY NAME \
        SELECT data.id, data.age FROM (SELECT from_json(value, 'id STRING, age INT') AS data FROM STREAM users_created)");
    assert_eq!(columns_of(&flow.await.expect("plans").schema), "id, age");
}

/// Plans travel to executors as bytes, functions by their names.
#[tokio::test]
async fn plans_travel() {
    let mut bench = Bench::new().await;
    let query = format!(
        "SELECT data.*, CAST(key AS STRING) AS k, upper(topic) AS t, array(1, 2)[0] AS a \
         FROM (SELECT from_json(value, '{USERS}', map('mode', 'PERMISSIVE')) AS data, key, topic \
         FROM STREAM(users_created)) WHERE data.age > 3 AND topic = 'users'"
    );
    let flow = bench.flow(&format!("CREATE FLOW f AS INSERT INTO nowhere {query}")).await.expect("plans");
    let again = travelled(&flow.plan);
    assert_eq!(text_of(&again), text_of(&flow.plan));
    assert_eq!(again.schema(), flow.schema);
}

/// The connectors there are, over a folder.
#[tokio::test]
async fn real_connectors_are_planned() {
    let folder = tempfile::tempdir().expect("folder");
    let warehouse = format!("file://{}", folder.path().display());
    let catalog = Catalog::open(Arc::new(InMemory::new()), &Path::from("s"), warehouse).await.expect("opens");
    let planner = Planner::new(Arc::new(catalog), Arc::new(RuntimeEnv::default()));
    let mut bench = Bench { planner, session: Session::default(), told: Arc::default() };
    bench
        .run(
            "CREATE TABLE ticks USING rate OPTIONS (rowsPerSecond 10, numPartitions 2);
             CREATE TABLE nowhere USING noop;
             CREATE TABLE files (value BIGINT, day STRING) USING parquet PARTITIONED BY (day)",
        )
        .await;
    let query = "SELECT value, CAST(CAST(timestamp AS DATE) AS STRING) AS day FROM STREAM(ticks) WHERE VALUE % 2 = 0";
    for target in ["nowhere", "files"] {
        let flow = bench.flow(&format!("CREATE FLOW f AS INSERT INTO {target} BY NAME {query}")).await;
        let flow = flow.unwrap_or_else(|error| panic!("{target}: {error}"));
        assert_eq!(columns_of(&flow.schema), "value, day");
        flow.sink.prepare().await.unwrap_or_else(|error| panic!("{target}: {error}"));
        // As the coordinator does: the batch's descriptors in place of the placeholders.
        let source = &flow.sources[0];
        let start = source.initial_offset().await.expect("starts");
        let descriptors = source.plan(&start, &start).await.expect("plans");
        let swapped = flow.plan.transform_up(|node| {
            Ok(match node.downcast_ref::<SourceScanExec>() {
                Some(scan) => {
                    Transformed::yes(Arc::new(scan.with_descriptors(&descriptors)?) as Arc<dyn ExecutionPlan>)
                }
                None => Transformed::no(node),
            })
        });
        let state = bench.planner.state(&bench.session.conf).expect("state");
        let rows = collect(swapped.expect("swaps").data, state.task_ctx()).await.expect("runs");
        assert_eq!(rows.iter().map(RecordBatch::num_rows).sum::<usize>(), 0);
    }
    let Planned::Write { target, input, .. } =
        bench.run("CREATE TABLE copy USING csv AS SELECT 1 AS a, 'x' AS b").await
    else {
        panic!("is a write")
    };
    let schema = Arc::clone(input.schema().inner());
    let sink = bench.planner.batch_sink(&target, schema, WriteMode::Append, "job", &BTreeMap::new()).await;
    sink.expect("is a sink").prepare().await.expect("is writable");
    bench
        .run(
            "CREATE TABLE fresh (a INT, b STRING) USING json;
             CREATE TABLE far (a INT) USING parquet LOCATION '/no/where'",
        )
        .await;
    for text in ["SELECT * FROM fresh", "SELECT a FROM far WHERE a > 1", "SELECT day FROM files WHERE value = 1"] {
        assert!(!bench.rows(text).await.contains('1'), "{text} has no rows");
    }
    bench.check_error("SELECT * FROM parquet.`/no/where`", "[PATH_NOT_FOUND]").await;
    std::fs::write(folder.path().join("x.json"), "{\"a\":1,\"B\":\"two\"}\n").expect("writes");
    let text = format!("SELECT A, b FROM json.`{}/x.json`", folder.path().display());
    assert!(bench.rows(&text).await.contains("two"));
    bench.check_error("CREATE TABLE k USING kafka; SELECT * FROM k", "[KAFKA_INVALID_OPTION]").await;
}

#[tokio::test]
async fn streams_of_files_keep_their_log_in_the_checkpoint() {
    let mut bench = Bench::new().await;
    bench
        .flow(
            "INSERT INTO nowhere SELECT value FROM STREAM(users_created)
             UNION ALL SELECT value FROM STREAM(files)",
        )
        .await
        .expect("plans");
    let told = bench.told.lock().expect("told");
    let logs: Vec<_> = told.iter().filter_map(|options| options.get(SOURCE_LOG)).collect();
    assert_eq!(logs, ["/checkpoint/sources/1/files"], "the topic, source 0, is not told");
}

#[tokio::test]
async fn databases_hold_tables() {
    let mut bench = Bench::new().await;
    bench.run("CREATE DATABASE Sales COMMENT 'of sales'").await;
    bench.run("CREATE TABLE sales.t (a INT) USING parquet; USE sales; CREATE TABLE u (b INT) USING parquet").await;
    let shown = bench.rows("SHOW TABLES").await;
    assert!(shown.contains("| Sales     | t ") && shown.contains("| Sales     | u "), "{shown}");
    assert!(!shown.contains("users_created"), "{shown}");
    for text in ["SELECT a FROM t", "SELECT a FROM SALES.T", "SELECT b FROM spark_catalog.sales.u"] {
        bench.rows(text).await;
    }
    let current = bench.rows("SELECT current_database()").await;
    assert!(current.contains("current_schema()") && current.contains("Sales"), "{current}");
    bench.check_error("SELECT * FROM users_created", "[TABLE_OR_VIEW_NOT_FOUND]").await;
    bench.rows("SELECT topic FROM default.users_created").await;
    let path = bench.planner.catalog().get("sales.u").and_then(|table| table.options.get("path").map(str::to_string));
    assert!(path.as_deref().is_some_and(|path| path.ends_with("/sales.db/u")), "{path:?}");
    assert!(bench.rows("SHOW DATABASES LIKE 's*'").await.contains("Sales"));
    assert!(bench.rows("DESCRIBE DATABASE sales").await.contains("of sales"));
    assert!(bench.rows("DESCRIBE EXTENDED u").await.contains("spark_catalog.Sales.u"));
    assert!(bench.rows("SHOW CREATE TABLE u").await.contains("CREATE TABLE Sales.u"));
    bench.check_error("CREATE DATABASE sales", "[SCHEMA_ALREADY_EXISTS]").await;
    bench.check_error("USE nope", "[SCHEMA_NOT_FOUND]").await;
    bench.check_error("DROP DATABASE sales", "[SCHEMA_NOT_EMPTY]").await;
    bench.run("USE default; DROP DATABASE sales CASCADE").await;
    bench.check_error("SELECT * FROM sales.t", "[SCHEMA_NOT_FOUND]").await;
    bench.run("DROP DATABASE IF EXISTS sales").await;
    bench.check_error("DROP DATABASE default", "[UNSUPPORTED_FEATURE.DROP_DATABASE]").await;
}

#[tokio::test]
async fn tables_without_a_place_are_managed() {
    let folder = tempfile::tempdir().expect("folder");
    let warehouse = format!("file://{}", folder.path().display());
    let catalog = Catalog::open(Arc::new(InMemory::new()), &Path::from("s"), warehouse.as_str()).await.expect("opens");
    let mut bench = Bench { planner: Planner::new(Arc::new(catalog), Arc::default()), ..Bench::new().await };
    bench
        .run(
            "CREATE TABLE own (a INT) USING json; CREATE TABLE far (a INT) USING json LOCATION '/far';
             CREATE TABLE told (a INT) USING json OPTIONS (path '/told'); CREATE TABLE gone USING noop",
        )
        .await;
    let kind = |bench: &Bench, name: &str| bench.planner.catalog().get(name).map(|table| table.kind());
    for (table, expect) in [("own", "MANAGED"), ("far", "EXTERNAL"), ("told", "EXTERNAL"), ("gone", "EXTERNAL")] {
        assert_eq!(kind(&bench, table), Some(expect), "{table}");
    }
    let described = bench.rows("DESCRIBE EXTENDED own").await;
    assert!(described.contains("MANAGED") && described.contains(&format!("{warehouse}/own")), "{described}");
    assert!(!bench.rows("SHOW CREATE TABLE own").await.contains("path"));
    assert!(bench.rows("SHOW CREATE TABLE far").await.contains("/far"));
    for (text, files) in [("DROP TABLE own", 1), ("DROP TABLE far", 0)] {
        let Planned::Drop(removal) = bench.run(text).await else { panic!("{text} drops") };
        assert_eq!(removal.tables.iter().filter(|table| table.managed).count(), files, "{text}");
    }
    // What a removal that was cut short leaves.
    std::fs::create_dir(folder.path().join("own")).expect("folder");
    bench.run("CREATE TABLE own (a INT) USING json; DROP TABLE own").await;
    std::fs::write(folder.path().join("own/part-0"), "{}").expect("writes");
    for text in [
        "CREATE TABLE own (a INT) USING json",
        "CREATE TABLE IF NOT EXISTS own USING csv AS SELECT 1 AS a",
        "CREATE OR REPLACE TABLE own (a INT) USING csv",
    ] {
        bench.check_error(text, "[LOCATION_ALREADY_EXISTS]").await;
    }
    bench.run(&format!("CREATE TABLE own (a INT) USING json LOCATION '{warehouse}/own'")).await;
    bench.check_error("CREATE TABLE own (a INT) USING json", "[TABLE_OR_VIEW_ALREADY_EXISTS]").await;
    // It was given its place: what is there is not ours to remove.
    bench.check_error("CREATE OR REPLACE TABLE own (b INT) USING csv", "[LOCATION_ALREADY_EXISTS]").await;
    // Nor is a folder that another table has, though nothing is there yet; what a write left half done is nobody's.
    bench.run(&format!("CREATE TABLE over (a INT) USING json LOCATION '{warehouse}/other/'")).await;
    bench.check_error("CREATE TABLE other (a INT) USING json", "[LOCATION_ALREADY_EXISTS]").await;
    // One that is around the warehouse is in nobody's way.
    bench.run(&format!("CREATE TABLE around (a INT) USING json LOCATION '{warehouse}'")).await;
    std::fs::create_dir_all(folder.path().join("left/_temporary/job")).expect("folder");
    std::fs::write(folder.path().join("left/_temporary/job/part-0"), "{}").expect("writes");
    bench.run("CREATE TABLE left (a INT) USING json").await;
    let Planned::Drop(removal) = bench.run("CREATE OR REPLACE TABLE left (b INT) USING csv").await else {
        panic!("the rows go")
    };
    assert!(removal.tables.iter().all(|table| table.managed), "and so do the files");
    let then = removal.then.expect("a table");
    assert_eq!((then.kind(), then.schema.as_deref()), ("MANAGED", Some("b INT")));
    for name in ["`../x`", "`a.b`", "`a-b`", "``", "`_a`"] {
        bench.check_error(&format!("CREATE TABLE {name} (a INT) USING json"), "").await;
    }
    bench.check_error("CREATE TABLE `a-b` (a INT) USING json", "[INVALID_SCHEMA_OR_RELATION_NAME]").await;
    bench.run("CREATE TABLE `a-b` (a INT) USING json LOCATION '/x'").await;
}

#[tokio::test]
async fn tables_are_altered() {
    let mut bench = Bench::new().await;
    bench
        .run("ALTER TABLE files SET TBLPROPERTIES (a = 'b', c = 'd'); ALTER TABLE files UNSET TBLPROPERTIES (c)")
        .await;
    let shown = bench.rows("SHOW TBLPROPERTIES files").await;
    assert!(shown.contains("| a   | b     |") && !shown.contains("| c "), "{shown}");
    bench.check_error("ALTER TABLE files UNSET TBLPROPERTIES (z)", "[UNSET_NONEXISTENT_PROPERTIES]").await;
    bench.run("ALTER TABLE files ADD COLUMNS (more STRING, n BIGINT)").await;
    assert_eq!(lines(&bench.rows("SHOW COLUMNS IN files").await), ["id", "extra", "more", "n", "age"]);
    bench.check_error("ALTER TABLE files ADD COLUMN (AGE INT)", "[COLUMN_ALREADY_EXISTS]").await;
    bench.check_error("ALTER TABLE nowhere ADD COLUMNS (a INT)", "[UNSUPPORTED_FEATURE.TABLE_OPERATION]").await;
    bench.run("ALTER TABLE files RENAME TO others; COMMENT ON TABLE others IS 'told'").await;
    assert!(bench.rows("DESCRIBE EXTENDED others").await.contains("told"));
    bench.check_error("SELECT * FROM files", "[TABLE_OR_VIEW_NOT_FOUND]").await;
    bench.check_error("ALTER TABLE others RENAME TO nowhere", "[TABLE_OR_VIEW_ALREADY_EXISTS]").await;
    bench
        .run("CREATE VIEW v AS SELECT topic FROM users_created; ALTER VIEW v AS SELECT offset FROM users_created")
        .await;
    assert!(bench.rows("DESCRIBE v").await.contains("bigint"));
    bench.check_error("ALTER VIEW v AS SELECT * FROM v", "[RECURSIVE_VIEW]").await;
    bench.check_error("ALTER TABLE v RENAME TO w", "[WRONG_COMMAND_FOR_OBJECT_TYPE]").await;
    bench.run("CACHE TABLE cached AS SELECT 1 AS one; UNCACHE TABLE cached; CLEAR CACHE; REFRESH TABLE others").await;
}

#[tokio::test]
async fn streams_have_the_time_of_the_batch() {
    let mut bench = Bench::new().await;
    let flow = bench
        .flow(
            "CREATE FLOW f AS INSERT INTO nowhere SELECT topic, current_timestamp() AS t, date_format(now(), 'yyyy') AS y \
             FROM STREAM(users_created) WHERE timestamp > current_timestamp() - INTERVAL 1 DAY",
        )
        .await
        .expect("plans");
    assert!(text_of(&flow.plan).contains("batch_time"), "{}", text_of(&flow.plan));
    let put = |ms: i64| text_of(&crate::streaming::batch_time::put(Arc::clone(&flow.plan), ms).expect("is put"));
    let (one, two) = (put(1000), put(2000));
    assert!(!one.contains("batch_time") && one != two, "{one}\n{two}");
    assert_eq!(one, put(1000));
    // In a lambda too.
    let flow = bench
        .flow(
            "CREATE FLOW f AS INSERT INTO nowhere \
             SELECT transform(split(topic, ','), x -> concat(x, date_format(now(), 'yyyy'))) AS z \
             FROM STREAM(users_created)",
        )
        .await
        .expect("plans");
    assert!(text_of(&flow.plan).contains("batch_time"), "{}", text_of(&flow.plan));
    let put = text_of(&crate::streaming::batch_time::put(flow.plan, 1000).expect("is put"));
    assert!(!put.contains("batch_time"), "{put}");
}

#[tokio::test]
async fn columns_may_have_the_same_name() {
    let mut bench = Bench::new().await;
    let Planned::Rows(plan) = bench.run("SELECT 1, 1, topic, topic FROM users_created").await else {
        panic!("are rows")
    };
    let names: Vec<&str> =
        plan.schema().fields().iter().map(|field| crate::sql::item_names::shown(field.name())).collect();
    assert_eq!(names, ["1", "1", "topic", "topic"]);
    for text in
        ["CREATE VIEW v AS SELECT 1, 1", "CREATE TABLE t USING parquet AS SELECT topic, topic FROM users_created"]
    {
        bench.check_error(text, "[COLUMN_ALREADY_EXISTS]").await;
    }
    bench.run("INSERT INTO files SELECT '1', NULL, 2").await;
}
