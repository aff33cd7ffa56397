"""What a query needs is away for longer than every timeout: hung (SIGSTOP), dead (SIGKILL), or not to be found.

Each time the query must say so, in words and in metrics, hold its memory, and go on by itself when the system is back.
Then the ledger: every row once, and no other.
"""

import http.server
import json
import os
import pathlib
import re
import threading
import unittest
import unittest.mock
import urllib.error
import urllib.request

import cluster
import pg
import users
from cluster import Cluster, Flow, wait_until
from services import Service

# Short, so that an outage is longer than all of them.
KAFKA = {
    "kafka.default.api.timeout.ms": "2000",
    "kafkaConsumer.pollTimeoutMs": "3000",
    "kafka.socket.timeout.ms": "2000",
}
CASSANDRA = {
    "spark.cassandra.connection.timeoutMS": "1000",
    "spark.cassandra.read.timeoutMS": "2000",
    "spark.cassandra.query.retry.count": "2",
}
# What an outage may cost a process in memory, in bytes: queues of what waits, not what arrives meanwhile.
GROWTH_MAX = 256 << 20


def resident(process):
    """Bytes of memory that a process holds."""
    return int(re.search(r"VmRSS:\s+(\d+) kB", pathlib.Path(f"/proc/{process.pid}/status").read_text())[1]) << 10


class OutageCase(unittest.TestCase):
    def start(self, **options):
        self.cluster = Cluster(self._testMethodName, **options)
        self.addCleanup(self.cluster.stop)

    def memory(self):
        return {process.pid: resident(process) for process in [self.cluster.scheduler, *self.cluster.executors]}

    def query(self, name):
        return self.cluster.queries()[name]

    def metric(self, family, **labels):
        """The value of a sample, or None."""
        text = ",".join(f'{key}="{value}"' for key, value in labels.items())
        for line in self.cluster.get("/metrics").splitlines():
            if line.startswith(f"{family}{{{text}}} "):
                return float(line.rpartition(" ")[2])
        return None

    def assert_says_so(self, name, systems, *words, attempts=2, seconds=240):
        """Waits until the query has failed `attempts` times, then looks at what it says everywhere.

        What an attempt may take is the product of its timeouts and of its retries, a task's and Ballista's: some 45 s
        where PostgreSQL hangs.
        """

        def failed():
            query = self.query(name)
            self.assertNotIn(query["state"], ("FAILED", "STOPPED", "FINISHED"), query["message"])
            trouble = query["trouble"]
            return query if trouble and trouble["attempts"] >= attempts else None

        query = wait_until(f"{name} has failed {attempts} times", failed, seconds)
        trouble = query["trouble"]
        self.assertEqual(query["state"], "RETRYING", query)
        self.assertIn(trouble["system"], systems, query)
        for word in words:
            self.assertIn(word, trouble["error"])
        self.assertTrue(trouble["remedy"])
        self.assertLess(trouble["since"], trouble["nextAttempt"])
        text = self.cluster.ok("query", "status", name)
        for line in ("system ", "failing ", "next try ", "remedy "):
            self.assertRegex(text, rf"(?m)^{line}")
        [of_api] = [one for one in json.loads(self.cluster.get("/api/v1/queries")) if one["name"] == name]
        self.assertIn(of_api["trouble"]["system"], systems)
        self.assertEqual(self.metric("headwater_query_state", query=name, state="RETRYING"), 1)
        self.assertGreaterEqual(self.metric("headwater_query_retries_total", query=name), attempts)
        self.assertGreater(self.metric("headwater_query_failing_since_seconds", query=name), 0)

    def assert_goes_on(self, name):
        def well():
            query = self.query(name)
            goes_on = query["trouble"] is None and query["state"] in ("RUNNING", "WAITING")
            # Of one moment or the next: with timeouts as short as these, a slow answer is a failure for a while.
            return goes_on and self.metric("headwater_query_failing_since_seconds", query=name) == 0

        wait_until(f"{name} goes on", well, 120)

    def assert_bounded(self, before):
        for pid, bytes_now in self.memory().items():
            self.assertLess(bytes_now - before[pid], GROWTH_MAX, f"process {pid} grew during the outage")


class Streams(OutageCase):
    needs = ("KAFKA_ADDRESS", "CASSANDRA_ADDRESS")

    def prepare(self, name):
        self.start()
        self.flow = Flow(name, kafka_options=KAFKA, cassandra_options=CASSANDRA)
        self.flow.set_up(self.cluster)
        self.made = []
        self.submit()
        self.more("before")
        self.flow.wait_for_ledger(self.cluster, users.ids(self.made))
        self.before = self.memory()

    def submit(self):
        """A service that has just started may be too slow for timeouts as short as these: then the flow is refused."""

        def taken():
            try:
                return self.cluster.submit(self.flow)
            except AssertionError as refused:
                if not re.search("(KAFKA|CASSANDRA)_(UNREACHABLE|READ_FAILED|REQUEST_FAILED)", str(refused)):
                    raise
                return None

        wait_until("the flow is taken", taken)

    def more(self, seed, count=300):
        made = list(users.make(count, f"{self._testMethodName} {seed}"))
        self.flow.produce(self.cluster, made)
        self.made += made

    def assert_recovered(self, seed):
        self.assert_goes_on(self.flow.name)
        self.assert_bounded(self.before)
        self.more(seed)
        self.flow.wait_for_ledger(self.cluster, users.ids(self.made), 120)

    def test_kafka_hangs_then_dies(self):
        kafka = Service(self, "kafka")
        self.prepare("kafka_away")
        kafka.freeze()
        self.assert_says_so(self.flow.name, ["kafka"], kafka.address)
        kafka.thaw()
        self.assert_recovered("after it hung")
        kafka.kill()
        self.assert_says_so(self.flow.name, ["kafka"], kafka.address)
        kafka.revive()
        self.assert_recovered("after it died")

    def test_cassandra_hangs_then_dies(self):
        cassandra = Service(self, "cassandra")
        self.prepare("cassandra_away")
        cassandra.freeze()
        self.more("while it hangs", 3_000)
        # The first time some 20 s: connections that are there are found to hang. Then by the timeouts alone: the driver
        # by itself would try its nodes over and over.
        self.assert_says_so(self.flow.name, ["cassandra"], cassandra.address.split(":")[0], seconds=60)
        cassandra.thaw()
        self.assert_recovered("after it hung")
        cassandra.kill()
        self.more("while it is dead", 3_000)
        self.assert_says_so(self.flow.name, ["cassandra"], cassandra.address.split(":")[0])
        cassandra.revive()
        self.assert_recovered("after it died")

    @unittest.skipUnless(os.geteuid() == 0, "a file of host names is mounted, which takes root")
    def test_a_host_name_that_is_found_no_more(self):
        """The scheduler and the executors see a file of host names of their own, from which the broker's is taken."""
        kafka = Service(self, "kafka")
        host, _, port = kafka.address.rpartition(":")
        folder = pathlib.Path(kafka.folder)
        hosts = folder / "hosts"
        known = f"127.0.0.1 localhost\n{host} broker.headwater.test\n"
        hosts.write_text(known)
        wrapper = folder / "headwater"
        wrapper.write_text(
            f'#!/bin/sh\nexec unshare --mount sh -c \'mount --bind {hosts} /etc/hosts && exec "$0" "$@"\' '
            f'{cluster.binary()} "$@"\n'
        )
        wrapper.chmod(0o755)
        with unittest.mock.patch.dict(os.environ, {"HEADWATER_BIN": str(wrapper)}):
            self.start()
        # A broker tells its own address to clients: only the first contact goes by the name, so it is killed too.
        self.flow = Flow("name_away", kafka_options=KAFKA, kafka=f"broker.headwater.test:{port}")
        self.flow.set_up(self.cluster)
        self.made = []
        self.submit()
        self.more("before")
        self.flow.wait_for_ledger(self.cluster, users.ids(self.made))
        self.before = self.memory()
        hosts.write_text("127.0.0.1 localhost\n")
        kafka.kill()
        self.assert_says_so(self.flow.name, ["kafka"], "broker.headwater.test")
        kafka.revive()
        hosts.write_text(known)
        self.assert_recovered("after it was found again")


class Postgres(OutageCase):
    needs = ("POSTGRES_ADDRESS",)

    def test_postgres_hangs_then_dies(self):
        postgres = Service(self, "postgres")
        self.start()
        url = f"postgresql://postgres@{postgres.address}/postgres?connect_timeout=2"
        with pg.Connection(postgres.address) as connection:
            connection.execute("CREATE TABLE kept (value bigint PRIMARY KEY)")
        self.cluster.submit_text(
            "kept",
            f"""CREATE TABLE made USING `rate-micro-batch` OPTIONS (rowsPerBatch '50', numPartitions '2');
            CREATE TABLE kept USING postgres OPTIONS (url '{url}', dbtable 'kept', retries '1', queryTimeout '2');
            CREATE FLOW keep AS INSERT INTO kept SELECT value FROM STREAM(made);""",
        )
        batch = lambda: self.query("keep")["batchId"]  # noqa: E731
        wait_until("three batches", lambda: batch() >= 3)
        before = self.memory()
        for away, back in ((postgres.freeze, postgres.thaw), (postgres.kill, postgres.revive)):
            away()
            self.assert_says_so("keep", ["postgres"], postgres.address)
            back()
            self.assert_goes_on("keep")
            self.assert_bounded(before)
            reached = batch()
            wait_until("three more batches", lambda: batch() >= reached + 3)
        self.cluster.ok("query", "stop", "keep")
        # Of a batch that the stop cut off, a part may be there already; it would be written again.
        committed = 50 * (batch() + 1)
        with pg.Connection(postgres.address) as connection:
            [(count,)] = connection.execute(f"SELECT count(*) FROM kept WHERE value < {committed}")
        # Keys are unique: as many as that are all.
        self.assertEqual(int(count), committed)


class Refusing(http.server.ThreadingHTTPServer):
    """Passes requests on to an S3 server, and refuses those that write when told to."""

    def __init__(self, upstream):
        self.refuses = False
        self.refused = 0
        server = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def pass_on(self):
                body = self.rfile.read(int(self.headers.get("content-length") or 0))
                if server.refuses and self.command in ("PUT", "POST"):
                    server.refused += 1
                    return self.answer(503, [], b"<Error><Code>SlowDown</Code><Message>not now</Message></Error>")
                request = urllib.request.Request(f"http://{upstream}{self.path}", body or None, method=self.command)
                for name, value in self.headers.items():
                    if name.lower() not in ("host", "connection", "content-length"):
                        request.add_header(name, value)
                request.add_header("Host", self.headers["host"])
                # Or urllib calls it a form, which the server would read as one.
                request.add_header("Content-Type", self.headers.get("content-type", "application/octet-stream"))
                try:
                    with urllib.request.urlopen(request, timeout=10) as answer:
                        return self.answer(answer.status, answer.headers.items(), answer.read())
                except urllib.error.HTTPError as error:
                    return self.answer(error.code, error.headers.items(), error.read())

            def answer(self, status, headers, body):
                self.send_response(status)
                for name, value in headers:
                    if name.lower() not in ("content-length", "connection", "transfer-encoding", "server", "date"):
                        self.send_header(name, value)
                if self.command != "HEAD":
                    self.send_header("Content-Length", str(len(body)))
                else:
                    length = dict((name.lower(), value) for name, value in headers).get("content-length", "0")
                    self.send_header("Content-Length", length)
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(body)

            do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = pass_on

            def log_message(self, *_):
                pass

        super().__init__(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.serve_forever, daemon=True).start()
        self.address = f"127.0.0.1:{self.server_address[1]}"


class ObjectStore(OutageCase):
    needs = ("S3_ADDRESS",)

    def test_the_store_refuses_writes_then_hangs(self):
        """The state directory is on S3, and so is the checkpoint; the table is a local one."""
        s3 = Service(self, "s3")
        proxy = Refusing(s3.address)
        self.addCleanup(proxy.server_close)
        self.addCleanup(proxy.shutdown)
        bucket = f"headwater-{os.urandom(4).hex()}"
        urllib.request.urlopen(urllib.request.Request(f"http://{s3.address}/{bucket}", method="PUT"), timeout=10).close()
        environment = {
            "AWS_ACCESS_KEY_ID": "key",
            "AWS_SECRET_ACCESS_KEY": "secret",
            "AWS_REGION": "us-east-1",
            "AWS_ENDPOINT": f"http://{proxy.address}",
            "AWS_ALLOW_HTTP": "true",
            "AWS_TIMEOUT": "2 seconds",
        }
        patch = unittest.mock.patch.dict(os.environ, environment)
        patch.start()
        self.addCleanup(patch.stop)
        self.start(state=f"s3://{bucket}/state")
        kept = self.cluster.folder / "kept"
        self.cluster.submit_text(
            "keep",
            f"""CREATE TABLE made USING `rate-micro-batch` OPTIONS (rowsPerBatch '50', numPartitions '2');
            CREATE TABLE kept USING parquet OPTIONS (path '{kept.as_uri()}');
            CREATE FLOW keep AS INSERT INTO kept SELECT value FROM STREAM(made);""",
        )
        batch = lambda: self.query("keep")["batchId"]  # noqa: E731
        wait_until("three batches", lambda: batch() >= 3)
        before = self.memory()

        def refuse():
            proxy.refuses = True

        def allow():
            self.assertGreater(proxy.refused, 0, "the fault fired")
            proxy.refuses = False

        for away, back in ((refuse, allow), (s3.freeze, s3.thaw)):
            away()
            # The checkpoint lies in the state directory: what fails is whichever is asked first, it or the leadership.
            self.assert_says_so("keep", ["state directory", "checkpoint storage"])
            back()
            self.assert_goes_on("keep")
            self.assert_bounded(before)
            reached = batch()
            wait_until("three more batches", lambda: batch() >= reached + 3)
        self.cluster.ok("query", "stop", "keep")
        [row] = self.cluster.sql("SELECT count(*) AS n, count(DISTINCT value) AS d, max(value) AS m FROM kept")
        self.assertEqual((row["d"], row["m"]), (row["n"], row["n"] - 1), "no row twice, none missing")
        self.assertGreaterEqual(row["n"], 50 * (batch() + 1))


if __name__ == "__main__":
    unittest.main()
