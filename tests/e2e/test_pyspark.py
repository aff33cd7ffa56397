"""PySpark's own clients on Headwater: the classic script unmodified, every call on streaming queries, and scripts that
were written for spark-submit.

PYSPARK_3_5_9 and PYSPARK_4_3_0 name Pythons with these versions (tests/spark/venv makes them).
"""

import json
import os
import pathlib
import signal
import subprocess
import unittest

import users
from cluster import DEADLINE, EXAMPLES, Cluster, Flow, Late, binary, cassandra, environment, in_child, kafka, wait_until

CLIENTS = pathlib.Path(__file__).resolve().parent / "clients"
SCRIPT = EXAMPLES / "spark_stream.py"


class Client:
    """A process of a client, in a group of its own, as a terminal starts it; its output goes to files."""

    def __init__(self, cluster, name, command, **settings):
        self.out, self.err = (cluster.logs / f"{name}.{kind}" for kind in ("out", "err"))
        with open(self.out, "wb") as out, open(self.err, "wb") as err:
            self.process = subprocess.Popen(
                [str(word) for word in command],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                env={**environment(), "HEADWATER_SCHEDULER": cluster.grpc, **settings},
                start_new_session=True,
                preexec_fn=in_child,
            )

    def text(self):
        return f"stdout: {self.out.read_text()[-6000:]}\nstderr: {self.err.read_text()[-6000:]}"

    def alive(self):
        return self.process.poll() is None

    def kill(self):
        """SIGKILL to the client and all it started."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def wait(self, seconds=None):
        try:
            return self.process.wait(seconds or DEADLINE)
        except subprocess.TimeoutExpired:
            self.kill()
            raise Late(f"the client has not ended: {self.text()}")

    def ended(self, status=0, seconds=None):
        """Waits for its end; its stdout."""
        code = self.wait(seconds)
        assert code == status, f"exit status {code}, expected {status}: {self.text()}"
        return self.out.read_text()


class Pyspark:
    """What both clients are to do. `python` is the variable that names theirs."""

    python = None

    def setUp(self):
        self.cluster = Cluster(f"{type(self).__name__}-{self._testMethodName}")
        self.addCleanup(self.cluster.stop)
        self.interpreter = os.environ[self.python]

    def submit(self, name, *words, **settings):
        return Client(self.cluster, name, [binary(), "submit", "--python", self.interpreter, *words], **settings)

    def stock(self, name, *words, **settings):
        """Without `headwater submit`: as anybody starts a script of Spark Connect."""
        remote = f"sc://{self.cluster.connect}"
        return Client(self.cluster, name, [self.interpreter, *words], SPARK_REMOTE=remote, **settings)

    def query(self):
        """The one query that there is."""
        queries = list(self.cluster.queries().values())
        assert len(queries) == 1, queries
        return queries[0]

    def running(self, client):
        """Waits until the script has started its query."""

        def started():
            assert client.alive(), f"the script has ended: {client.text()}"
            return self.cluster.queries()

        wait_until("the script has started its query", started)
        return self.query()


class ClassicScript(Pyspark):
    """examples/spark_stream.py, from Kafka to Cassandra."""

    needs = ("KAFKA_ADDRESS", "CASSANDRA_ADDRESS")

    def setUp(self):
        super().setUp()
        self.flow = Flow("pyspark")
        self.flow.set_up(self.cluster)
        self.made = []
        self.settings = {
            "KAFKA_BOOTSTRAP_SERVERS": kafka(),
            "KAFKA_TOPIC": self.flow.topic,
            "CASSANDRA_HOST": cassandra(),
            "CASSANDRA_TABLE": self.flow.table,
            "CHECKPOINT_LOCATION": (self.cluster.folder / "checkpoint").as_uri(),
        }

    def produce(self, count):
        more = list(users.make(count, f"{self.id()} {len(self.made)}"))
        self.made += more
        self.flow.produce(self.cluster, more)

    def complete(self, client=None):
        """The table has what was produced, and nothing else."""
        self.flow.name = self.running(client)["name"] if client else self.query()["name"]
        self.flow.wait_for_ledger(self.cluster, users.ids(self.made), seconds=180)

    def test_submitted_it_survives_the_client_and_the_scheduler(self):
        client = self.submit("script", SCRIPT, **self.settings)
        self.produce(500)
        self.complete(client)
        before = self.query()
        self.assertTrue(before["name"].startswith("SparkDataStreaming-"), before)
        self.assertTrue(client.alive(), "it waits for the query")

        client.kill()
        self.produce(500)
        self.complete()
        self.assertEqual(self.query()["runId"], before["runId"], "the query went on as it was")

        self.produce(2000)
        self.cluster.scheduler.kill()
        self.cluster.start_scheduler()
        self.cluster.wait_for_executors(2)
        self.produce(500)
        self.complete()
        after = self.query()
        self.assertEqual(after["id"], before["id"])
        self.assertNotEqual(after["runId"], before["runId"])

    def test_the_scheduler_dies_in_the_middle_of_it(self):
        # As slow as test_faults has it, so that the middle can be met.
        slow = "spark.cassandra.output.throughputMBPerSec=0.2"
        self.produce(20_000)
        client = self.submit("script", SCRIPT, "--conf", slow, **self.settings)
        self.running(client)
        # Not by a count, which may take as long as the batch where Cassandra is short of processor.
        wait_until("some rows are in the table", self.flow.has_rows)
        self.cluster.scheduler.kill()
        self.assertLess(self.flow.count(), 20_000, "the fault came too late: all rows were written")
        self.cluster.start_scheduler()
        self.cluster.wait_for_executors(2)
        self.complete()
        client.kill()

    def test_with_a_stock_client(self):
        client = self.stock("script", SCRIPT, **self.settings)
        self.produce(500)
        self.complete(client)
        first = self.query()
        # Once more, while it runs: Spark's stopActiveRunOnRestart.
        again = self.stock("again", SCRIPT, **self.settings)
        client.ended(seconds=60)
        self.produce(100)
        self.complete(again)
        self.assertEqual(self.query()["id"], first["id"])
        self.cluster.ok("query", "stop", first["id"])
        again.ended(seconds=60)


class Calls(Pyspark):
    def test_streaming_calls(self):
        folder = self.cluster.folder / "calls"
        client = self.stock("calls", CLIENTS / "streaming.py", folder)
        client.ended(seconds=300)
        self.assertRegex(client.err.read_text(), r"Ran 1\d tests")


class Submit(Pyspark):
    """`headwater submit` of scripts."""

    def stop(self, query):
        """Or the scheduler would wait, as it drains, for a batch that began as the last executor ended."""
        self.cluster.ok("query", "stop", query["id"])

    def test_a_script_of_before_spark_connect(self):
        helpers = self.cluster.folder / "modules" / "helpers.py"
        helpers.parent.mkdir()
        helpers.write_text("VALUE = 'helped'\n")
        flags = ("--py-files", helpers, "--conf", "spark.from.command=2", "--conf", "spark.app.name=from the command")
        client = self.submit("context", CLIENTS / "context.py", *flags, "--", "3", "--flag", "a b")
        found = json.loads(client.ended(status=3))
        self.assertEqual(found["appName"], "from the script")
        self.assertEqual(found["version"], found["sparkVersion"])
        self.assertGreater(found["defaultParallelism"], 0)
        self.assertTrue(found["applicationId"].startswith("headwater-"))
        self.assertEqual(found["uiWebUrl"], f"http://{self.cluster.http}")
        self.assertEqual(found["remote"], f"sc://{self.cluster.connect}")
        self.assertEqual(found["master"], found["remote"])
        self.assertTrue(found["same"])
        self.assertEqual((found["fromScript"], found["fromCommand"]), ("1", "2"))
        self.assertEqual(found["helper"], "helped")
        self.assertEqual(found["arguments"], ["3", "--flag", "a b"])
        self.assertEqual(found["rows"], [0, 1, 2])
        self.assertIn("needs a JVM", found["refused"])

    def test_detached_the_query_goes_on(self):
        client = self.submit("wait", CLIENTS / "wait.py", "--detach", "--name", "ticks")
        lines = client.ended().splitlines()
        query = self.query()
        self.assertEqual(lines[-1], f"{query['id']}\tticks")
        self.assertIn(query["state"], ("RUNNING", "WAITING"))
        self.assertIn("headwater query stop ticks", client.err.read_text())
        self.assertNotIn("the script ends", client.err.read_text())
        # Its name is taken.
        again = self.submit("again", CLIENTS / "wait.py", "--detach", "--name", "ticks")
        again.ended(status=1)
        self.assertIn(query["id"], again.err.read_text())
        self.stop(query)

    def test_ctrl_c_ends_the_script_and_not_the_query(self):
        client = self.submit("wait", CLIENTS / "wait.py")
        self.running(client)
        wait_until("the script waits", lambda: "started" in client.out.read_text())
        client.process.send_signal(signal.SIGINT)
        client.wait()
        self.assertIn("the script ends", client.err.read_text())
        self.assertIn("goes on", client.err.read_text())
        query = self.query()
        self.assertIn(query["state"], ("RUNNING", "WAITING"))
        self.stop(query)

    def test_stop_on_exit(self):
        client = self.submit("wait", CLIENTS / "wait.py", "--stop-on-exit")
        self.running(client)
        wait_until("the script waits", lambda: "started" in client.out.read_text())
        client.process.send_signal(signal.SIGINT)
        client.wait()
        self.assertEqual(self.query()["state"], "STOPPED")

    def test_a_python_without_pyspark(self):
        script = self.cluster.file("script.py", "import pyspark\n")
        # Alone: without the packages of its environment.
        alone = self.cluster.file("alone", f'#!/bin/sh\nexec "{self.interpreter}" -S -c "import sys\nsys.path[:] = [p for p in sys.path if \'site-packages\' not in p]\nimport sitecustomize, runpy\nrunpy.run_path(sys.argv[1], run_name=\'__main__\')" "$@"\n')
        alone.chmod(0o755)
        client = Client(self.cluster, "alone", [binary(), "submit", "--python", alone, script])
        client.ended(status=1)
        self.assertIn("pip install 'pyspark[connect]'", client.err.read_text())
        nowhere = Client(self.cluster, "nowhere", [binary(), "submit", "--python", "/nowhere/python", script])
        nowhere.ended(status=2)
        self.assertIn("PYTHON_NOT_FOUND", nowhere.err.read_text())


def _for_both(kind):
    """The tests of `kind` with each client."""
    for version, variable in (("35", "PYSPARK_3_5_9"), ("43", "PYSPARK_4_3_0")):
        name = f"{kind.__name__}{version}"
        needs = (*getattr(kind, "needs", ()), variable)
        globals()[name] = type(name, (kind, unittest.TestCase), {"python": variable, "needs": needs, "__module__": __name__})


for _kind in (ClassicScript, Calls, Submit):
    _for_both(_kind)


if __name__ == "__main__":
    unittest.main()
