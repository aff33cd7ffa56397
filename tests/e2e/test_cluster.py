"""A scheduler and two executors as processes, real Kafka, real Cassandra: what a user does with them."""

import json
import os
import pty
import select
import signal
import subprocess
import unittest

import cql
import users
from cluster import (
    EXAMPLES,
    UUID,
    Cluster,
    Flow,
    Late,
    binary,
    cassandra,
    environment,
    headwater,
    in_child,
    kafka,
    produce,
    wait_until,
)

PROGRESS_FIELDS = {
    "id", "runId", "name", "timestamp", "batchId", "batchDuration", "durationMs", "eventTime", "stateOperators",
    "sources", "sink", "numInputRows", "inputRowsPerSecond", "processedRowsPerSecond", "observedMetrics",
}  # fmt: skip
SOURCE_FIELDS = {
    "description", "startOffset", "endOffset", "latestOffset", "numInputRows", "inputRowsPerSecond",
    "processedRowsPerSecond", "metrics",
}  # fmt: skip
LIST_FIELDS = {
    "id", "runId", "name", "state", "batchId", "inputRowsPerSecond", "processedRowsPerSecond", "lag", "message",
    "badRows", "badRecords",
}  # fmt: skip
STATES = {"RUNNING", "WAITING", "RETRYING", "STOPPED", "FINISHED", "FAILED"}


class ClusterCase(unittest.TestCase):
    """One cluster for all tests of a class."""

    needs = ("KAFKA_ADDRESS", "CASSANDRA_ADDRESS")

    @classmethod
    def setUpClass(cls):
        cls.cluster = Cluster(cls.__name__.lower())
        cls.addClassCleanup(cls.cluster.stop)


class Stream(ClusterCase):
    def test_users_reach_cassandra(self):
        """Records produced before the query starts and while it runs; text ids become uuids; read back by SQL too."""
        flow = Flow("users")
        flow.set_up(self.cluster)
        made = list(users.make(5_000, "stream"))
        flow.produce(self.cluster, made[:2_000])
        query = self.cluster.submit(flow)
        flow.produce(self.cluster, made[2_000:])
        flow.wait_for_ledger(self.cluster, users.ids(made))
        rows = self.cluster.sql(f"SELECT id FROM {flow.table}")
        self.assertEqual(sorted(row["id"] for row in rows), users.ids(made))
        # Field for field, numbers as text among them.
        rows = {row["id"]: row for row in self.cluster.sql(f"SELECT * FROM {flow.table}")}
        for user in made[:50]:
            expected = {name: None if value is None else str(value) for name, value in user.items()}
            found = {name: rows[user["id"]].get(name) for name in user}
            self.assertEqual(found, expected)
        status = json.loads(self.cluster.ok("query", "status", query, "--json"))
        self.assertEqual(status["id"], query)
        self.cluster.ok("query", "stop", query)

    def test_nulls_leave_no_trace(self):
        """A null is left unset: it does not delete what an earlier record has written."""
        flow = Flow("nulls")
        flow.set_up(self.cluster, 1)
        self.cluster.submit(flow)
        user = next(iter(users.make(1, "nulls")))
        flow.produce(self.cluster, [{**user, "city": "Utrecht"}])
        flow.wait_for_ledger(self.cluster, [user["id"]])
        flow.produce(self.cluster, [{**user, "city": None, "first_name": "Second"}])
        with cql.Connection(cassandra()) as connection:

            def row():
                return connection.execute(f"SELECT first_name, city FROM spark_streams.{flow.table}")[0]

            wait_until("the second record is written", lambda: row()[0] == "Second")
            self.assertEqual(row(), ("Second", "Utrecht"))

    def test_table_is_made_on_request(self):
        flow = Flow("made", create_table=True)
        flow.create_topic(self.cluster, 2)
        made = list(users.make(100, "made"))
        flow.produce(self.cluster, made)
        self.cluster.submit(flow)

        def exists():
            with cql.Connection(cassandra()) as connection:
                return connection.execute(
                    "SELECT column_name FROM system_schema.columns "
                    f"WHERE keyspace_name = 'spark_streams' AND table_name = '{flow.table}'"
                )

        wait_until("the table is made", exists)
        flow.wait_for_ledger(self.cluster, users.ids(made))

    def test_available_now_ends(self):
        """Drains the topic in batches of a limited size, and ends; run again, it reads what came since."""
        flow = Flow("drain", kafka_options={"maxOffsetsPerTrigger": 300})
        flow.set_up(self.cluster)
        made = list(users.make(1_000, "drain"))
        flow.produce(self.cluster, made[:900])
        self.cluster.submit(flow, "--trigger", "available-now", detach=False)
        self.assertEqual(flow.ids(), users.ids(made[:900]))
        query = self.cluster.queries()[flow.name]
        self.assertEqual(query["state"], "FINISHED")
        batches = [report["numInputRows"] for report in self.cluster.progress(flow.name)]
        self.assertLessEqual(max(batches), 300)
        self.assertEqual(sum(batches), 900)
        flow.produce(self.cluster, made[900:])
        self.cluster.ok("query", "restart", flow.name)
        flow.wait_for_ledger(self.cluster, users.ids(made))
        wait_until("it has finished again", lambda: self.cluster.queries()[flow.name]["state"] == "FINISHED")

    def test_malformed_records_do_not_stop_the_query(self):
        flow = Flow("malformed")
        flow.set_up(self.cluster, 2)
        self.cluster.submit(flow)
        made = list(users.make(200, "malformed"))
        records = []
        for index, user in enumerate(made):
            records.append(user)
            if index % 10 == 0:
                records.append(["{\"id\": ", "no json", "[]", "{}", '{"id": "no-uuid"}'][index // 10 % 5])
        flow.produce(self.cluster, records)
        flow.wait_for_ledger(self.cluster, users.ids(made))

        # The lag may be that of the batch before: the last one is in the table before it is reported.
        def reported():
            reports = self.cluster.progress(flow.name)
            return reports if sum(report["numInputRows"] for report in reports) >= len(records) else None

        reports = wait_until("every record is reported", reported)
        self.assertEqual(sum(report["numInputRows"] for report in reports), len(records))
        self.assertEqual(sum(max(report["sink"]["numOutputRows"], 0) for report in reports), len(made))
        bad = sum(int(report["sink"]["metrics"].get("badRows", 0)) for report in reports)
        self.assertEqual(bad, len(records) - len(made), "every record that could not be used is counted")

    def test_kafka_to_kafka(self):
        """Records of one topic, changed, into another; read back as a batch, keys and headers with them."""
        flow = Flow("relay")
        flow.create_topic(self.cluster, 3)
        target = f"{flow.topic}_out"
        self.cluster.ok("topic", "create", target, "--partitions", "2", "--kafka", kafka())
        self.cluster.submit_text(
            flow.name,
            f"""CREATE TABLE {flow.name}_in USING kafka OPTIONS ('kafka.bootstrap.servers' '{kafka()}',
                subscribe '{flow.topic}', startingOffsets 'earliest');
            CREATE TABLE {flow.name}_out USING kafka OPTIONS ('kafka.bootstrap.servers' '{kafka()}',
                subscribe '{target}', topic '{target}');
            CREATE FLOW {flow.name} AS INSERT INTO {flow.name}_out BY NAME
                SELECT key, upper(CAST(value AS STRING)) AS value FROM STREAM({flow.name}_in);""",
        )
        words = [f"word {number}" for number in range(500)]
        produce(self.cluster, flow.topic, words)
        out = f"SELECT CAST(value AS STRING) AS v FROM {flow.name}_out"
        rows = wait_until("all have arrived", lambda: (rows := self.cluster.sql(out)) and len(rows) >= 500 and rows)
        self.assertEqual(sorted(row["v"] for row in rows), sorted(word.upper() for word in words))

    def test_records_that_cannot_be_written_go_to_a_topic(self):
        flow = Flow("letters")
        letters = f"{flow.topic}_dead"
        flow.cassandra_options = {
            "headwater.badRecords": "dead-letter",
            "headwater.deadLetter.topic": letters,
            "headwater.deadLetter.kafka.bootstrap.servers": kafka(),
            "headwater.deadLetter.columns": "_corrupt_record",
        }
        # The text of what could not be parsed is for the letters alone: the table has no such column.
        flow.fields = "_corrupt_record STRING, "
        flow.set_up(self.cluster, 2)
        self.cluster.ok("topic", "create", letters, "--partitions", "1", "--kafka", kafka())
        self.cluster.submit(flow)
        made = list(users.make(50, flow.name))
        flow.produce(self.cluster, [*made, '{"id": null, "first_name": "Nobody"}', '{"id": "no-uuid"}', "{cut off"])
        flow.wait_for_ledger(self.cluster, users.ids(made))
        tail = lambda: self.cluster.ok("topic", "tail", letters, "--from", "earliest", "--kafka", kafka())  # noqa: E731
        kept = wait_until("all letters", lambda: (text := tail()) and len(text.splitlines()) >= 3 and text)
        for text in ("Nobody", "no-uuid", "{cut off"):
            self.assertIn(text, kept)
        query = wait_until("all are counted", lambda: (q := self.cluster.queries()[flow.name])["badRows"] >= 3 and q)
        self.assertEqual(query["badRecords"], "dead-letter")


class Queries(ClusterCase):
    """`headwater query` and the HTTP API: shapes and states."""

    def setUp(self):
        self.flow = Flow("query")
        self.flow.set_up(self.cluster, 2)
        self.made = list(users.make(300, self.flow.name))
        self.flow.produce(self.cluster, self.made)
        self.query = self.cluster.submit(self.flow)
        self.flow.wait_for_ledger(self.cluster, users.ids(self.made))

    def state(self):
        return self.cluster.queries()[self.flow.name]["state"]

    def test_shapes(self):
        entry = self.cluster.queries()[self.flow.name]
        self.assertLessEqual(LIST_FIELDS, set(entry), "fields of `query list --json`")
        self.assertEqual((entry["id"], entry["name"], entry["lag"]), (self.query, self.flow.name, 0))
        self.assertIn(entry["state"], STATES)
        self.assertGreaterEqual(entry["batchId"], 0)
        self.assertRegex(entry["runId"], UUID)
        reports = self.cluster.progress(self.query)
        self.assertTrue(reports)
        for report in reports:
            self.assertLessEqual(PROGRESS_FIELDS, set(report), "fields that PySpark's parser requires")
            self.assertLessEqual({"description", "numOutputRows", "metrics"}, set(report["sink"]))
            for source in report["sources"]:
                self.assertLessEqual(SOURCE_FIELDS, set(source))
        with_rows = [report for report in reports if report["numInputRows"]]
        self.assertEqual(sum(report["numInputRows"] for report in with_rows), len(self.made))
        last = with_rows[-1]
        self.assertEqual((last["id"], last["name"]), (self.query, self.flow.name))
        source = last["sources"][0]
        self.assertEqual(source["description"], f"KafkaV2[Subscribe[{self.flow.topic}]]")
        self.assertEqual(sum(source["endOffset"][self.flow.topic].values()), len(self.made))
        phases = "latestOffset getOffset getBatch queryPlanning walCommit addBatch commitOffsets triggerExecution"
        self.assertEqual(set(last["durationMs"]), set(phases.split()), "Spark's, all of them and no other")
        batches = [report["batchId"] for report in with_rows]
        self.assertEqual(batches, sorted(set(batches)), "each batch is reported once, in order")

    def test_http_says_the_same(self):
        listed = {query["id"]: query for query in json.loads(self.cluster.get("/api/v1/queries"))}
        self.assertEqual(listed[self.query]["name"], self.flow.name)
        reports = json.loads(self.cluster.get(f"/api/v1/queries/{self.query}/progress"))
        self.assertEqual(reports[-1]["id"], self.query)
        self.assertEqual(len(self.cluster.executor_tasks()), 2)
        self.assertIn("# TYPE", self.cluster.get("/metrics"))

    def test_stop_restart_delete(self):
        first_run = self.cluster.queries()[self.flow.name]["runId"]
        self.cluster.ok("query", "stop", self.query[:13])
        wait_until("it is stopped", lambda: self.state() == "STOPPED")
        late = list(users.make(50, f"{self.flow.name} late"))
        self.flow.produce(self.cluster, late)
        self.cluster.ok("query", "restart", self.flow.name)
        self.flow.wait_for_ledger(self.cluster, users.ids(self.made + late))
        entry = self.cluster.queries()[self.flow.name]
        self.assertEqual(entry["id"], self.query, "the id stays")
        self.assertNotEqual(entry["runId"], first_run, "the run is another")
        self.cluster.refused("query", "delete", self.query)  # it runs
        self.cluster.ok("query", "stop", self.query)
        wait_until("it is stopped", lambda: self.state() == "STOPPED")
        self.cluster.ok("query", "delete", self.query)
        self.assertNotIn(self.flow.name, self.cluster.queries())
        self.assertIn(self.query, self.cluster.refused("query", "status", self.query))

    def test_second_copy_is_refused_with_its_id(self):
        path = self.cluster.file("again.sql", self.flow.sql())
        self.assertIn(self.query, self.cluster.refused("submit", path, *self.flow.settings(), "--detach"))
        self.assertIn(self.state(), ("RUNNING", "WAITING"))

    def test_checkpoint_of_another_query_is_refused(self):
        checkpoint = (self.cluster.folder / f"checkpoint-{self.flow.name}").as_uri()
        owner, other = Flow("owner"), Flow("other")
        for flow in (owner, other):
            flow.set_up(self.cluster, 1)
        self.cluster.submit(owner, "--checkpoint", checkpoint)
        wait_until("it runs", lambda: self.cluster.queries()[owner.name]["state"] in ("RUNNING", "WAITING"))
        path = self.cluster.file("other.sql", other.sql())
        err = self.cluster.refused("submit", path, *other.settings(), "--checkpoint", checkpoint)
        self.assertIn(f"checkpoint-{self.flow.name}", err)
        self.assertIn(self.cluster.queries()[owner.name]["state"], ("RUNNING", "WAITING"))

    def test_interrupting_the_follower_leaves_the_query(self):
        flow = Flow("followed")
        flow.set_up(self.cluster, 1)
        path = self.cluster.file("followed.sql", flow.sql())
        follower = subprocess.Popen(
            [binary(), "submit", str(path), *flow.settings(), "--scheduler", self.cluster.grpc],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment(),
            preexec_fn=in_child,
        )
        self.addCleanup(follower.kill)
        wait_until("the query is listed", lambda: flow.name in self.cluster.queries())
        # The id is printed once the client is following: until then the signal would end it before it can say so.
        os.set_blocking(follower.stdout.fileno(), False)
        out = bytearray()

        def printed_its_id():
            out.extend(follower.stdout.read() or b"")
            return UUID.search(out.decode())

        wait_until("the follower has printed the id", printed_its_id)
        follower.send_signal(signal.SIGINT)
        self.assertEqual(follower.wait(30), 130)
        self.assertIn(flow.name, self.cluster.queries())
        self.assertIn(self.cluster.queries()[flow.name]["state"], ("RUNNING", "WAITING"))
        self.assertTrue(follower.stderr.read().strip(), "it says that the query goes on")
        follower.stdout.close()
        follower.stderr.close()

    def test_unknown_reference(self):
        for command in ("status", "progress", "stop", "restart", "delete"):
            self.assertIn("nobody", self.cluster.refused("query", command, "nobody"))


class Sql(ClusterCase):
    """Batch SQL on the cluster over Cassandra, Kafka and Parquet."""

    def test_joins_between_systems(self):
        flow = Flow("join")
        flow.set_up(self.cluster)
        made = list(users.make(600, "join"))
        flow.produce(self.cluster, made)
        self.cluster.submit(flow)
        flow.wait_for_ledger(self.cluster, users.ids(made))
        # More in the topic than in the table, once the query no longer runs.
        self.cluster.ok("query", "stop", flow.name)
        wait_until("it is stopped", lambda: self.cluster.queries()[flow.name]["state"] == "STOPPED")
        extra = list(users.make(40, "join extra"))
        flow.produce(self.cluster, extra)

        continents = {"NL": "Europe", "UA": "Europe", "TR": "Asia", "IR": "Asia", "IE": "Europe", "ES": "Europe"}
        table = f"{flow.name}_continents"
        folder = self.cluster.folder / "continents"
        self.cluster.ok("sql", f"CREATE TABLE {table} (nat STRING, continent STRING) USING parquet OPTIONS (path '{folder}')")
        values = ", ".join(f"('{nat}', '{continent}')" for nat, continent in continents.items())
        self.cluster.ok("sql", f"INSERT INTO {table} VALUES {values}")

        expected = {}
        for user in made:
            expected[continents[user["nat"]]] = expected.get(continents[user["nat"]], 0) + 1
        rows = self.cluster.sql(
            f"SELECT c.continent, count(*) AS users FROM {flow.table} u JOIN {table} c ON u.nat = c.nat "
            "GROUP BY c.continent ORDER BY c.continent"
        )
        self.assertEqual({row["continent"]: row["users"] for row in rows}, expected)

        topic = (
            "(SELECT data.id AS id, data.nat AS nat FROM (SELECT from_json(CAST(value AS STRING), 'id STRING, nat STRING')"
            f" AS data FROM {flow.topic}))"
        )
        rows = self.cluster.sql(f"SELECT count(*) AS n FROM {topic} AS produced")
        self.assertEqual(rows, [{"n": len(made) + len(extra)}])
        rows = self.cluster.sql(
            f"SELECT p.id, c.continent FROM {topic} AS p JOIN {table} c ON p.nat = c.nat "
            f"LEFT JOIN {flow.table} u ON u.id = p.id WHERE u.id IS NULL"
        )
        self.assertEqual(sorted(row["id"] for row in rows), users.ids(extra))
        self.assertEqual({row["id"]: row["continent"] for row in rows}, {u["id"]: continents[u["nat"]] for u in extra})

    def test_examples_run_as_they_are(self):
        with cql.Connection(cassandra()) as connection:
            for statement in (EXAMPLES / "users.cql").read_text().split(";"):
                if statement.strip():
                    connection.execute(statement)
        topics = self.cluster.ok("topic", "list", "--kafka", kafka())
        if "users_created" not in topics.split():
            self.cluster.ok("topic", "create", "users_created", "--partitions", "4", "--kafka", kafka())
        records = (EXAMPLES / "users.jsonl").read_text().splitlines()
        produce(self.cluster, "users_created", records)
        settings = ["--set", f"kafka={kafka()}", "--set", f"cassandra={cassandra()}"]
        self.cluster.ok("submit", EXAMPLES / "users.sql", *settings, "--detach")
        expected = {json.loads(record)["id"] for record in records}
        with cql.Connection(cassandra()) as connection:

            def ids():
                return {str(row[0]) for row in connection.execute("SELECT id FROM spark_streams.created_users")}

            wait_until("the example's records are in the table", lambda: expected <= ids())
        wait_until("no lag", lambda: self.cluster.queries()["users"]["lag"] == 0)
        report = self.cluster.ok("sql", "-f", EXAMPLES / "report.sql")
        self.assertRegex(report, r"\|missing\|\n\S+\n\| +0\|", "all that is in the topic is in the table")

    def test_formats(self):
        query = "SELECT 1 AS n, 'ü' AS s, CAST(NULL AS STRING) AS x"
        self.assertEqual(self.cluster.sql(query), [{"n": 1, "s": "ü", "x": None}])
        self.assertEqual(self.cluster.ok("sql", "--format", "csv", query).splitlines()[:2], ["n,s,x", "1,ü,"])
        self.assertIn("|n|s|x   |\n", self.cluster.ok("sql", "--format", "table", query))
        self.assertEqual(self.cluster.sql("SELECT * FROM (SELECT 1 AS n) WHERE n > 1"), [])
        self.assertEqual(json.loads(self.cluster.ok("sql", "--format", "json", stdin="SELECT 2 AS n;")), [{"n": 2}])

    def test_topics(self):
        flow = Flow("topic")
        flow.create_topic(self.cluster, 3)
        self.assertIn(flow.topic, self.cluster.ok("topic", "list", "--kafka", kafka()))
        described = self.cluster.ok("topic", "describe", flow.topic, "--kafka", kafka())
        self.assertEqual([line.split()[0] for line in described.splitlines()], ["PARTITION", "0", "1", "2"])
        self.assertIn(flow.topic, self.cluster.refused("topic", "create", flow.topic, "--kafka", kafka()))
        self.assertIn("nowhere", self.cluster.refused("topic", "describe", "nowhere", "--kafka", kafka()))


class Refusals(ClusterCase):
    """Wrong input: an exit status, the thing's name, and never a panic."""

    def refused_flow(self, flow, *words):
        path = self.cluster.file(f"{flow.name}.sql", flow.sql())
        err = self.cluster.refused("submit", path, *flow.settings())
        for word in words:
            self.assertIn(word, err)
        entry = self.cluster.queries().get(flow.name)
        self.assertTrue(entry is None or entry["state"] == "FAILED", f"it is not left running: {entry}")

    def test_unreachable_broker(self):
        flow = Flow("no_kafka", kafka="127.0.0.1:1")
        flow.make_table()
        self.refused_flow(flow, "127.0.0.1:1")

    def test_unreachable_cassandra(self):
        flow = Flow("no_cassandra", cassandra="127.0.0.1:1")
        flow.create_topic(self.cluster)
        self.refused_flow(flow, "CASSANDRA_UNREACHABLE", "127.0.0.1:1")

    def test_missing_topic(self):
        flow = Flow("no_topic")
        flow.make_table()
        self.refused_flow(flow, "KAFKA_UNKNOWN_TOPIC", flow.topic, kafka(), "headwater topic create")

    def test_missing_table(self):
        flow = Flow("no_table")
        flow.create_topic(self.cluster)
        self.refused_flow(flow, "TABLE_OR_VIEW_NOT_FOUND", flow.table, "CREATE TABLE")

    def test_table_lacks_a_column(self):
        flow = Flow("no_column")
        flow.set_up(self.cluster)
        with cql.Connection(cassandra()) as connection:
            connection.execute(f"ALTER TABLE spark_streams.{flow.table} DROP phone")
        self.refused_flow(flow, "phone", flow.table)

    def test_unknown_options(self):
        flow = Flow("option", kafka_options={"maxOffsetPerTrigger": "5"})
        flow.set_up(self.cluster)
        self.refused_flow(flow, "maxOffsetPerTrigger")
        flow = Flow("option", cassandra_options={"consistency": "ONE"})
        flow.set_up(self.cluster)
        self.refused_flow(flow, "consistency")

    def test_wrong_usage(self):
        flow = Flow("usage")
        path = self.cluster.file("usage.sql", flow.sql())
        err = self.cluster.refused("submit", path, "--set", f"kafka={kafka()}", status=2)
        self.assertIn("cassandra", err)
        self.cluster.refused("submit", self.cluster.folder / "nowhere.sql", status=2)
        self.cluster.refused("submit", path, "--trigger", "sometimes", status=2)
        self.cluster.refused("query", "lists", status=2)

    def test_wrong_sql(self):
        self.assertIn("line 2", self.cluster.refused("sql", "SELECT 1\nFORM nowhere"))
        self.assertIn("nowhere", self.cluster.refused("sql", "SELECT * FROM nowhere"))

    def test_a_statement_that_fails_prints_no_result(self):
        for format in ("table", "json", "csv"):
            result = self.cluster.run("sql", "--format", format, "SELECT 1 AS one; SELECT 1 / 0")
            self.assertEqual(result.status, 1, str(result))
            self.assertIn("[DIVIDE_BY_ZERO]", result.err)
            self.assertNotIn("FETCH", result.err)
            # That of the statement before it is whole.
            whole = {"json": '[{"one":1}]\n', "csv": "one\n1\n"}.get(format)
            self.assertEqual(result.out, whole or self.cluster.ok("sql", "SELECT 1 AS one"))

    def test_no_scheduler(self):
        for command in (["query", "list"], ["sql", "SELECT 1"]):
            result = headwater(*command, "--scheduler", "127.0.0.1:1")
            self.assertEqual(result.status, 3, str(result))
            self.assertIn("127.0.0.1:1", result.err)
            for other in (self.cluster.http, self.cluster.connect):
                result = headwater(*command, "--scheduler", other)
                self.assertEqual(result.status, 3, str(result))
                self.assertIn(f"{other} (what listens there is no scheduler", result.err)

    def test_secrets_stay_out_of_errors_and_logs(self):
        secret = "hunter2-is-a-secret"
        flow = Flow("secret", kafka_options={"kafka.sasl.password": secret, "nonsense": "1"})
        flow.set_up(self.cluster)
        path = self.cluster.file("secret.sql", flow.sql())
        err = self.cluster.refused("submit", path, *flow.settings())
        self.assertNotIn(secret, err)
        for log in self.cluster.logs.glob("*.log"):
            self.assertNotIn(secret, log.read_text(errors="replace"))


class Prompt(ClusterCase):
    """`headwater sql` on a terminal."""

    def setUp(self):
        pid, self.terminal = pty.fork()
        if pid == 0:
            arguments = [binary(), "sql", "--scheduler", self.cluster.grpc]
            os.execve(binary(), arguments, {**environment(), "XDG_STATE_HOME": str(self.cluster.folder), "TERM": "dumb"})
        self.pid = pid
        self.shown = ""
        self.addCleanup(self.end)

    def end(self):
        if self.pid:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
        os.close(self.terminal)

    def type(self, text):
        os.write(self.terminal, text.encode())

    def wait_for(self, text):
        """Until the terminal shows it; what was shown up to there is passed over."""

        def there():
            while select.select([self.terminal], [], [], 0.1)[0]:
                try:
                    self.shown += os.read(self.terminal, 65536).decode(errors="replace")
                except OSError:  # the other side is closed
                    break
            return text in self.shown

        try:
            wait_until(f"the prompt shows {text!r}", there)
        except Late as late:
            raise AssertionError(f"{late}; it shows {self.shown!r}") from None
        self.shown = self.shown.partition(text)[2]

    def test_ctrl_c_cancels_the_statement_and_not_the_prompt(self):
        self.wait_for("headwater> ")
        self.type("SELECT count(*) FROM range(1000000000000);\r")
        running = lambda: sum(  # noqa: E731
            self.cluster.executor_metric(executor, "headwater_tasks_running") for executor in self.cluster.executors
        )
        wait_until("the statement runs", running)
        self.type("\x03")
        self.wait_for("cancelled after")
        wait_until("its task has stopped", lambda: not running())
        self.wait_for("headwater> ")
        self.type("SELECT 6 * 7 AS answer;\r")
        self.wait_for("|    42|")
        self.wait_for("1 row in")
        self.type("\\q\r")
        wait_until("the prompt ends", lambda: os.waitpid(self.pid, os.WNOHANG) != (0, 0))
        self.pid = None


del ClusterCase  # it has no tests of its own, and unittest would start a cluster for it
